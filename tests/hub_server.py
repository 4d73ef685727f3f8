"""A hub of models on this machine: as much of its API as huggingface_hub needs to fetch, to list and to push."""
import base64, hashlib, json, re, threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlparse

def sha256(data): return hashlib.sha256(data).hexdigest()
def git_oid(data): return hashlib.sha1(b'blob %d\0' % len(data) + data).hexdigest()

class Hub:
    "Models by name, each its files; `asked` lists (method, path) of all requests"
    def __init__(self, token='hf_mine'):
        self.token, self.models, self.private, self.gated, self.objects, self.asked = token, {}, set(), set(), {}, []
        self.spoil = lambda path, data: data    # what is sent instead of a file
        self.server = ThreadingHTTPServer(('127.0.0.1', 0), type('Bound', (Handler,), dict(hub=self)))
        self.url = f'http://127.0.0.1:{self.server.server_port}'
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def stop(self):
        self.server.shutdown()
        self.server.server_close()

    def sha(self, name): return hashlib.sha1(repr(sorted(self.models[name].items())).encode()).hexdigest()
    def listed(self, name):
        for path, data in self.models[name].items():
            lfs = dict(sha256=sha256(data), oid=sha256(data), size=len(data), pointerSize=130)
            yield path, data, lfs if path.endswith(('.safetensors', '.bin')) else None

class Handler(BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    def log_message(self, *args): pass
    def do_GET(self): self.answer()
    def do_HEAD(self): self.answer()
    def do_PUT(self): self.answer()
    def do_POST(self): self.answer()

    def answer(self):
        path = unquote(urlparse(self.path).path)
        self.hub.asked.append((self.command, path))
        self.body = self.rfile.read(int(self.headers.get('Content-Length') or 0))
        for pattern, f in ROUTES:
            m = re.fullmatch(pattern, path)
            if m: return f(self, *m.groups())
        self.send(404, dict(error=f'no route {path}'))

    def send(self, status, data=b'', **headers):
        data = json.dumps(data).encode() if isinstance(data, (dict, list)) else data
        self.send_response(status)
        for k, v in headers.items(): self.send_header(k.replace('_', '-'), v)
        self.send_header('Content-Length', str(len(data)))
        self.end_headers()
        if self.command != 'HEAD': self.wfile.write(data)

    def may(self, name, revision='main', write=False):
        "Is the request allowed? Else it is answered"
        mine = self.headers.get('Authorization') == f'Bearer {self.hub.token}'
        seen = name in self.hub.models and (mine or name not in self.hub.private)
        if not seen or write and not mine: self.send(401, dict(error='Repository not found'), X_Error_Code='RepoNotFound')
        elif name in self.hub.gated: self.send(403, dict(error='gated'), X_Error_Code='GatedRepo')
        elif revision not in ('main', 'v1', self.hub.sha(name)):
            self.send(404, dict(error='no such revision'), X_Error_Code='RevisionNotFound')
        else: return True

def info(o, name, revision='main'):
    if not o.may(name, revision): return
    files = [dict(rfilename=k, size=len(v), blobId=git_oid(v), **(dict(lfs=lfs) if lfs else {})) for k, v, lfs in o.hub.listed(name)]
    o.send(200, dict(id=name, modelId=name, sha=o.hub.sha(name), private=name in o.hub.private, siblings=files, tags=[]))

def tree(o, name, revision):
    if not o.may(name, revision): return
    files = [dict(type='file', path=k, size=len(v), oid=git_oid(v), **(dict(lfs=lfs) if lfs else {})) for k, v, lfs in o.hub.listed(name)]
    o.send(200, files)

def resolve(o, name, revision, path):
    if not o.may(name, revision): return
    data = o.hub.models[name].get(path)
    if data is None: return o.send(404, dict(error='no file'), X_Error_Code='EntryNotFound')
    lfs = path.endswith(('.safetensors', '.bin'))
    o.send(200, o.hub.spoil(path, data), X_Repo_Commit=o.hub.sha(name), ETag=f'"{sha256(data) if lfs else git_oid(data)}"')

def create(o):
    asked = json.loads(o.body)
    name = f"{asked.get('organization') or 'me'}/{asked['name']}"
    if o.headers.get('Authorization') != f'Bearer {o.hub.token}': return o.send(401, dict(error='Invalid username or password.'))
    if name in o.hub.models: return o.send(409, dict(error='You already created this model repo', url=f'{o.hub.url}/{name}'))
    o.hub.models[name] = {}
    if asked.get('private') or asked.get('visibility') == 'private': o.hub.private.add(name)
    o.send(200, dict(url=f'{o.hub.url}/{name}', name=name))

def preupload(o, name, revision):
    if not o.may(name, write=True): return
    files = json.loads(o.body)['files']
    how = lambda path: 'lfs' if path.endswith('.safetensors') else 'regular'
    o.send(200, dict(files=[dict(path=f['path'], uploadMode=how(f['path']), shouldIgnore=False, oid=None) for f in files]))

def lfs_batch(o, name):
    if not o.may(name, write=True): return
    objects = [dict(oid=f['oid'], size=f['size'], actions=dict(upload=dict(href=f'{o.hub.url}/upload/{f["oid"]}'))) for f in json.loads(o.body)['objects']]
    o.send(200, dict(transfer='basic', objects=objects))

def upload(o, oid):
    o.hub.objects[oid] = o.body
    o.send(200)

def commit(o, name, revision):
    if not o.may(name, write=True): return
    for line in o.body.splitlines():
        entry = json.loads(line)
        value = entry['value']
        if entry['key'] == 'file': o.hub.models[name][value['path']] = base64.b64decode(value['content'])
        if entry['key'] == 'lfsFile': o.hub.models[name][value['path']] = o.hub.spoil(value['path'], o.hub.objects[value['oid']])
    o.send(200, dict(success=True, commitOid=o.hub.sha(name), commitUrl=f'{o.hub.url}/{name}/commit/{o.hub.sha(name)}'))

MODEL = r'([^/]+/[^/]+)'
ROUTES = [('/api/repos/create', create), (f'/api/models/{MODEL}/preupload/(.+)', preupload), (f'/api/models/{MODEL}/commit/(.+)', commit),
    (f'/api/models/{MODEL}/tree/([^/]+)/?', tree), (f'/api/models/{MODEL}/revision/(.+)', info), (f'/api/models/{MODEL}', info),
    (rf'/{MODEL}\.git/info/lfs/objects/batch', lfs_batch), ('/upload/(.+)', upload), (f'/{MODEL}/resolve/([^/]+)/(.+)', resolve),
    ('/api/validate-yaml', lambda o: o.send(200, dict(errors=[], warnings=[])))]
