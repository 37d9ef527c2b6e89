"""Serves one WSGI application on 127.0.0.1, threaded, with nothing but the standard library."""
import importlib, json, os, random, re, sys, threading, urllib.parse, urllib.request, uuid, socketserver
from wsgiref import simple_server


class Server(socketserver.ThreadingMixIn, simple_server.WSGIServer):
    daemon_threads = True
    request_queue_size = 64

    def server_bind(self):  # The base class asks the resolver for the host's full name.
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address
        self.setup_environ()


class Handler(simple_server.WSGIRequestHandler):
    timeout = 60

    def log_message(self, *_):
        pass

    def address_string(self):
        return self.client_address[0]


class Standin:
    """As much of Neutron and Glance as Nova and the client ask for: an image without data, and one network whose addresses are this machine's own, 127.0.1.0/24, so that
    a server started on such an address stands for the instance that has it."""

    def __init__(self, folder):
        self.folder, self.path, self.lock = folder, os.path.join(folder, 'neutron.json'), threading.Lock()
        try:
            with open(self.path) as file:
                self.all = json.load(file)
        except FileNotFoundError:
            net, subnet, group = (str(uuid.uuid5(uuid.NAMESPACE_DNS, name)) for name in ('net', 'subnet', 'group'))
            self.all = {
                'networks': [{'id': net, 'name': 'net', 'status': 'ACTIVE', 'admin_state_up': True, 'shared': True,
                              'router:external': False, 'subnets': [subnet], 'tenant_id': '', 'project_id': '', 'mtu': 1500}],
                'subnets': [{'id': subnet, 'name': 'subnet', 'network_id': net, 'cidr': '127.0.1.0/24', 'ip_version': 4,
                             'gateway_ip': None, 'enable_dhcp': False, 'dns_nameservers': [], 'host_routes': []}],
                'security_groups': [{'id': group, 'name': 'default', 'tenant_id': '', 'security_group_rules': []}],
                'ports': [], 'floatingips': [], 'extensions': [], 'agents': [], 'routers': []}

    def __call__(self, environ, start):
        with self.lock:
            status, body = self.answer(environ)
        data = json.dumps(body).encode() if body is not None else b''
        start(status, [('Content-Type', 'application/json'), ('Content-Length', str(len(data)))])
        return [data]

    def answer(self, environ):
        method, path = environ['REQUEST_METHOD'], environ['PATH_INFO'].rstrip('/')
        if path.startswith('/image'):
            return self.image(path[len('/image'):], environ)
        path = path.removeprefix('/network')
        query = urllib.parse.parse_qs(environ['QUERY_STRING'])
        size = int(environ.get('CONTENT_LENGTH') or 0)
        body = json.loads(environ['wsgi.input'].read(size)) if size else {}
        if path in ('', '/v2.0'):
            return '200 OK', {'versions': [{'id': 'v2.0', 'status': 'CURRENT', 'links': [
                {'rel': 'self', 'href': 'http://%s/network/v2.0/' % environ['HTTP_HOST']}]}]}
        parts = re.sub(r'\.json$', '', path).split('/')[2:]
        kind, one = parts[0].replace('-', '_'), {'security-groups': 'security_group'}.get(parts[0], parts[0][:-1])
        if kind == 'quotas':
            return '200 OK', {'quota': {'port': -1, 'network': -1, 'floatingip': -1}}
        rows = self.all.setdefault(kind, [])
        if len(parts) == 1 and method == 'GET':
            keep = [row for row in rows if all(
                key in ('fields', 'limit', 'marker', 'sort_key', 'sort_dir') or key not in row or str(row[key]) in want
                or row[key] in ('', True) for key, want in query.items())]
            return '200 OK', {kind: keep}
        if method == 'POST':
            row = dict(body[one], id=str(uuid.uuid4()))
            if kind == 'ports':
                taken = {ip['ip_address'] for port in rows for ip in port['fixed_ips']}
                wanted = [ip['ip_address'] for ip in row.get('fixed_ips', []) if ip.get('ip_address')]
                if taken.intersection(wanted):
                    return '409 Conflict', {'NeutronError': {'type': 'IpAddressAlreadyAllocated', 'message': 'in use', 'detail': ''}}
                free = wanted[0] if wanted else next(a for a in ('127.0.1.%d' % n for n in range(10, 255)) if a not in taken)
                if not row.get('tenant_id') and not row.get('project_id'):
                    row['tenant_id'] = self.project_of(environ['HTTP_X_AUTH_TOKEN'])
                row = {'name': '', 'status': 'ACTIVE', 'device_owner': '', 'binding:vif_type': 'ovs', 'binding:profile': {},
                       'binding:vif_details': {}, 'binding:vnic_type': 'normal', 'security_groups': [],
                       'mac_address': 'fa:16:3e:%02x:%02x:%02x' % tuple(random.randrange(256) for _ in range(3)), **row,
                       'fixed_ips': [{'subnet_id': self.all['subnets'][0]['id'], 'ip_address': free}]}
            rows.append(row)
            self.save()
            return '201 Created', {one: row}
        found = next((row for row in rows if row['id'] == parts[1]), None)
        if found is None:
            return '404 Not Found', {'NeutronError': {'type': 'NotFound', 'message': 'not found', 'detail': ''}}
        if method == 'PUT':
            found.update(body[one])
            self.save()
        elif method == 'DELETE':
            rows.remove(found)
            self.save()
            return '204 No Content', None
        return '200 OK', {one: found}

    def project_of(self, token):
        with open(os.path.join(self.folder, 'base')) as file:
            url = 'http://127.0.0.1:%d/v3/auth/tokens' % int(file.read())
        request = urllib.request.Request(url, headers={'X-Auth-Token': token, 'X-Subject-Token': token})
        with urllib.request.urlopen(request) as answer:
            return json.load(answer)['token']['project']['id']

    def image(self, path, environ):
        if path in ('', '/versions'):
            return '200 OK', {'versions': [{'id': 'v2.9', 'status': 'CURRENT', 'links': [
                {'rel': 'self', 'href': 'http://%s/image/v2/' % environ['HTTP_HOST']}]}]}
        parts = path.split('/')[2:]
        one = {'id': str(uuid.uuid5(uuid.NAMESPACE_DNS, 'image')), 'name': 'cirros', 'status': 'active', 'size': 512,
               'visibility': 'public', 'disk_format': 'raw', 'container_format': 'bare', 'min_ram': 0, 'min_disk': 0,
               'owner': '', 'protected': False, 'tags': [], 'checksum': '0' * 32, 'os_hidden': False,
               'created_at': '2026-01-01T00:00:00Z', 'updated_at': '2026-01-01T00:00:00Z', 'os_distro': 'cirros'}
        if parts[:1] == ['schemas']:
            # Nova keeps what the schema names, and takes everything else for a property of the image's own.
            names = [name for name in one if name != 'os_distro']
            return '200 OK', {'name': 'image', 'properties': {name: {} for name in names},
                              'additionalProperties': {'type': 'string'}}
        if parts == ['images']:
            query = urllib.parse.parse_qs(environ['QUERY_STRING'])
            return '200 OK', {'images': [one] if all(one[key] in want for key, want in query.items() if key in ('name', 'id'))
                              else []}
        if parts == ['images', one['id']]:
            return '200 OK', one
        return '404 Not Found', {'message': 'not found'}

    def save(self):
        with open(self.path + '.new', 'w') as file:
            json.dump(self.all, file)
        os.replace(self.path + '.new', self.path)


def application(name, conf):
    folder = os.path.dirname(conf)
    sys.argv = [name, '--config-file', conf]
    if name == 'standin':
        return Standin(conf)
    if name == 'keystone':
        os.environ['OS_KEYSTONE_CONFIG_DIR'] = folder
        sys.argv = [name]
        return importlib.import_module('keystone.server.wsgi').initialize_public_application()
    if name == 'placement':
        os.environ['OS_PLACEMENT_CONFIG_DIR'] = folder
        return importlib.import_module('placement.wsgi').init_application()
    if name == 'nova':
        os.environ.update(OS_NOVA_CONFIG_DIR=folder, OS_NOVA_CONFIG_FILES='api-paste.ini;nova.conf;nova-db.conf')
        return importlib.import_module('nova.wsgi.osapi_compute').application
    if name == 'cinder':
        return importlib.import_module('cinder.wsgi.wsgi').initialize_application()
    raise SystemExit('no such application: ' + name)


def main():
    _, name, port, conf = sys.argv
    # A service that a power cut ended may be started again on the same port at once.
    server = Server(('127.0.0.1', int(port)), Handler)
    server.set_app(application(name, conf))
    server.serve_forever()
