"""Users, roles, catalogue; and the wait until every service has reported."""
import sys, time
from keystoneauth1 import loading, session
from keystoneauth1.identity import v3


def connect(url):
    return session.Session(v3.Password(url, username='admin', password='secret', project_name='admin',
                                       user_domain_id='default', project_domain_id='default'))


def main():
    url = sys.argv[1]
    keystone = connect(url)
    get = lambda path: keystone.get(url + path).json()
    post = lambda path, body: keystone.post(url + path, json=body).json()

    def ensure(kind, body, **match):
        one = kind.rstrip('s') if kind != 'services' else 'service'
        for row in get('/' + kind)[kind]:
            if all(row.get(key) == value for key, value in match.items()):
                return row['id']
        return post('/' + kind, {one: dict(body, **match)})['%s' % one]['id']

    roles = {name: ensure('roles', {}, name=name) for name in ('admin', 'member', 'reader', 'service')}
    projects = {name: ensure('projects', {'domain_id': 'default'}, name=name) for name in ('service', 'demo')}
    for name, project, given in (('nova', 'service', ('admin', 'service')), ('cinder', 'service', ('admin', 'service')),
                                 ('placement', 'service', ('admin', 'service')), ('demo', 'demo', ('member', 'reader'))):
        user = ensure('users', {'domain_id': 'default', 'password': 'secret'}, name=name)
        for role in given:
            keystone.put('%s/projects/%s/users/%s/roles/%s' % (url, projects[project], user, roles[role]))
    for kind, name in (('volumev3', 'cinderv3'), ('compute', 'nova'), ('placement', 'placement'), ('network', 'neutron'), ('image', 'glance')):
        service = ensure('services', {'name': name}, type=kind)
        for interface in ('public', 'internal', 'admin'):
            post('/endpoints', {'endpoint': {'service_id': service, 'interface': interface, 'region_id': 'RegionOne',
                                             'url': 'http://127.0.0.1/set-at-each-start'}})


def ready():
    keystone, computes, until, state = connect(sys.argv[1]), int(sys.argv[2]), time.time() + 180, None

    def count(kind, path, key):
        filters = {'service_type': kind, 'region_name': 'RegionOne'}
        rows = keystone.get(path, endpoint_filter=filters).json()[key]
        return sum(row.get('state', 'up') == 'up' for row in rows)

    while time.time() < until:
        try:
            state = (count('compute', '/os-services', 'services'), count('compute', '/os-hypervisors', 'hypervisors'),
                     count('volumev3', '/os-services', 'services'))
            if state[0] >= computes + 2 and state[1] >= computes and state[2] >= 2:
                filters = {'service_type': 'compute', 'region_name': 'RegionOne'}
                if not keystone.get('/flavors', endpoint_filter=filters).json()['flavors']:
                    for name, ram in (('tiny', 64), ('small', 512)):
                        keystone.post('/flavors', endpoint_filter=filters, json={'flavor': {
                            'name': name, 'ram': ram, 'vcpus': 1, 'disk': 0, 'id': name}})
                return
        except Exception as error:
            state = error
        time.sleep(0.5)
    raise SystemExit('services that are up (compute, hypervisors, volume): %s' % (state,))
