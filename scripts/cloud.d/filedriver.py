"""A Cinder driver whose volumes are sparse files: what is written to one is there to read."""
import os, shutil, subprocess
from oslo_config import cfg
from cinder import exception
from cinder.volume import configuration, driver

OPTIONS = [cfg.StrOpt('file_root', default='/var/lib/cinder/files')]
cfg.CONF.register_opts(OPTIONS, group=configuration.SHARED_CONF_GROUP)


class FileDriver(driver.VolumeDriver):
    VERSION = '1.0'

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.configuration.append_config_values(OPTIONS)
        self.root = self.configuration.file_root

    def _path(self, name):
        return os.path.join(self.root, name)

    def do_setup(self, context):
        os.makedirs(self.root, exist_ok=True)

    def check_for_setup_error(self):
        pass

    def _copy(self, source, target, gib):
        subprocess.run(['cp', '--sparse=always', self._path(source), self._path(target)], check=True)
        os.truncate(self._path(target), gib << 30)

    def _remove(self, name):
        try:
            os.unlink(self._path(name))
        except FileNotFoundError:
            pass

    def create_volume(self, volume):
        with open(self._path(volume.name), 'wb') as file:
            file.truncate(volume.size << 30)

    def delete_volume(self, volume):
        self._remove(volume.name)

    def create_snapshot(self, snapshot):
        self._copy(snapshot.volume_name, snapshot.name, snapshot.volume_size)

    def delete_snapshot(self, snapshot):
        self._remove(snapshot.name)

    def create_volume_from_snapshot(self, volume, snapshot):
        self._copy(snapshot.name, volume.name, volume.size)

    def create_cloned_volume(self, volume, src_vref):
        self._copy(src_vref.name, volume.name, volume.size)

    def extend_volume(self, volume, new_size):
        os.truncate(self._path(volume.name), new_size << 30)

    def ensure_export(self, context, volume):
        pass

    def create_export(self, context, volume, connector):
        pass

    def remove_export(self, context, volume):
        pass

    def initialize_connection(self, volume, connector, **kwargs):
        return {'driver_volume_type': 'iscsi', 'data': {
            'target_discovered': False, 'target_portal': '127.0.0.1:3260', 'target_lun': 1, 'volume_id': volume.id,
            'target_iqn': 'iqn.2010-10.org.openstack:' + volume.name}}

    def terminate_connection(self, volume, connector, **kwargs):
        pass

    def _update_volume_stats(self):
        free = shutil.disk_usage(self.root).free >> 30
        self._stats = {'volume_backend_name': self.configuration.volume_backend_name, 'vendor_name': 'test',
                       'driver_version': self.VERSION, 'storage_protocol': 'iSCSI', 'total_capacity_gb': free,
                       'free_capacity_gb': free, 'reserved_percentage': 0, 'multiattach': True}
