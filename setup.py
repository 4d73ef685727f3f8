"""Read all metadata from settings.ini, so that it is written once."""
from configparser import ConfigParser
from pathlib import Path
from setuptools import find_packages, setup

here = Path(__file__).parent
cfg = ConfigParser(delimiters=['='])
cfg.read(here/'settings.ini', encoding='utf-8')
cfg = cfg['DEFAULT']
lines = lambda key: [o.strip() for o in cfg[key].splitlines() if o.strip()]

setup(
    name=cfg['lib_name'], version=cfg['version'], description=cfg['description'], author=cfg['author'],
    keywords=cfg['keywords'].split(), license_expression=cfg['license'], license_files=['LICENSE'],
    python_requires='>=' + cfg['min_python'],
    long_description=(here/'README.md').read_text(encoding='utf-8'), long_description_content_type='text/markdown',
    # a wheel has the weights and maps of data/ that are Apache-2.0 as gaugan_fastai/shipped
    packages=[*find_packages(include=['gaugan_fastai', 'gaugan_fastai.*']), 'gaugan_fastai.shipped'],
    package_dir={'gaugan_fastai.shipped': 'data'},
    package_data={
        'gaugan_fastai': ['page/*'],
        'gaugan_fastai.shipped': [*(f'weights/{o}/**' for o in ('landscapes', 'landscapes_sean')), 'maps/*.png']},
    install_requires=lines('requirements'),
    extras_require=dict(app=lines('app_requirements'), hub=lines('hub_requirements'),
        dev=lines('dev_requirements') + lines('app_requirements')),
    entry_points=dict(console_scripts=lines('console_scripts'), nbdev=['gaugan_fastai=gaugan_fastai._modidx:d']),
    zip_safe=False)
