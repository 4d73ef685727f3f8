"""The score table agrees with the cards, and every model that it names has a sheet of pictures that is small enough."""
import importlib.util
from conftest import ROOT

def tool(name):
    spec = importlib.util.spec_from_file_location(name, ROOT/f'tools/{name}.py')
    res = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(res)
    return res

def test_the_table_agrees_with_the_cards(tmp_path, monkeypatch):
    table = tool('score_table')
    assert table.main(['--check']) == 0, 'python tools/score_table.py'
    text = table.PAGE.read_text()
    for name, card in table.cards().items():
        line = next(o for o in text.splitlines() if f'[{name}]' in o)
        assert f'{card["n_parameters"]/1e6:.1f} M' in line and card['licence'] in line
        for k, v in card.get('scores', {}).items():
            if k.startswith('kid_'): assert f'{v[0]:.4f}' in line
    other = tmp_path/'scores.md'
    other.write_text(text.replace(' M |', ' N |', 1))
    monkeypatch.setattr(table, 'PAGE', other)
    assert table.main(['--check']) == 1
    assert table.main([]) == 0 and other.read_text() == text

def test_cells_of_both_kinds_of_cards():
    table = tool('score_table')
    drawn = dict(kid_128=[.02, .001], real_128=[.001, .001], kid_64=[.01, .001], miou=.4, real_miou=.5)
    assert table.kid_cell(drawn) == '64x64: 0.0100; 128x128: 0.0200 (0.0010)' and table.miou_cell(drawn) == '0.400 (0.500: 80%)'
    assert table.miou_cell(drawn | dict(own_miou=.49)) == '0.400 (0.500: 80%); own style 0.490: 98.0%'
    photos = {'96x128': dict(kid=.2, real=.02, miou=.3, real_miou=.4)}
    assert table.kid_cell(photos) == '96x128: 0.2000 (0.0200)' and table.miou_cell(photos) == '0.300 (0.400: 75%)'

def test_sheets_are_small_and_shown():
    sheets, text = sorted((ROOT/'docs/images/sheets').glob('*.jpg')), (ROOT/'docs/scores.md').read_text()
    assert sheets and all(o.stat().st_size <= 300_000 and f'images/sheets/{o.name}' in text for o in sheets)

def test_the_cards_say_what_a_user_must_know():
    for name, card in tool('score_table').cards().items():
        assert len(card['limits']) > 80 and len(card['training']) > 80 and card['licence'] and len(card['size']) == 2, name
        assert card['seed'] == 0 and ('tools/' in card['training']), name
        curve = card.get('curve') or card['losses']
        assert 'not kept' in curve or 'gan' in curve or all(o['steps'] for o in curve), name
        if isinstance(curve, list): assert [o['steps'] for o in curve if o.get('stage') != 'stage 2'] == sorted(o['steps'] for o in curve if o.get('stage') != 'stage 2')
