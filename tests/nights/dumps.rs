//! The promise: a dump of an instance's databases arrives over ssh, can be restored, and nothing of its password is to
//! be seen by whoever looks at the processes meanwhile. A real sshd and a real MariaDB on this machine play the
//! instance, both private to the test: temporary directories, a port of their own, no daemon of the system's touched.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::testkit::guest::{both_outputs, sh};
use crate::testkit::ssh::serve_ssh;
use crate::testkit::wait::{Killed, wait_until};

/// The variable with the password of the mail server.
const VARIABLE: &str = "VOLBAK_MAIL__PASSWORD";
const PASSWORD: &str = "Geheim-4711-nobody-sees";

struct Instance {
    root: PathBuf,
    port: u16,
    _database: Killed,
}

impl Instance {
    fn start(root: &Path) -> Self {
        let at = |name: &str| root.join(name).display().to_string();
        let port = serve_ssh("127.0.0.1:0", at("sshd_config"), root.join("sshd.log"));
        sh(&format!(
            "mkdir -p /run/sshd {dest} {db}; ssh-keygen -q -t ed25519 -N '' -f {host}; ssh-keygen -q -t ed25519 -N '' -f {key}
             cp {key}.pub {authorized}; chmod 600 {authorized}
             echo \"[127.0.0.1]:{port} $(cut -d' ' -f1,2 {host}.pub)\" >{known}
             mariadb-install-db --no-defaults --datadir={db} --user=root --auth-root-authentication-method=normal \
                 --skip-test-db >/dev/null",
            dest = at("dest"),
            db = at("db"),
            host = at("host_key"),
            key = at("key"),
            authorized = at("authorized_keys"),
            known = at("known_hosts"),
        ));
        fs::write(
            root.join("sshd_config"),
            format!(
                "HostKey {}\nAuthorizedKeysFile {}\nStrictModes no\nUsePAM no\n\
                 PermitRootLogin prohibit-password\nPasswordAuthentication no\nPidFile none\n",
                at("host_key"),
                at("authorized_keys")
            ),
        )
        .unwrap();
        let mut database = Command::new("mariadbd");
        database.args(["--no-defaults", "--skip-networking", "--user=root", "--skip-log-bin"]);
        database.args(["--innodb-buffer-pool-size=16M".to_owned(), format!("--datadir={}", at("db"))]);
        database.arg(format!("--socket={}", at("db.sock"))).stdin(Stdio::null()).stdout(Stdio::null());
        let database = database.stderr(fs::File::create(root.join("database.log")).unwrap()).spawn().unwrap();
        let instance = Self { root: root.to_owned(), port, _database: Killed(database) };
        let socket = at("db.sock");
        wait_until("MariaDB answers", || {
            let mut ping = Command::new("mariadb-admin");
            ping.args(["--no-defaults", "-uroot", &format!("--socket={socket}"), "ping"]);
            ping.output().unwrap().status.success()
        });
        instance.sql(&format!(
            "CREATE DATABASE shop; CREATE TABLE shop.orders (id INT PRIMARY KEY, what TEXT, raw BLOB) ENGINE=InnoDB;
             INSERT INTO shop.orders SELECT seq, CONCAT('Bestellung für ', seq, ' \\'\"\\\\ €'), UNHEX(SHA2(seq, 512))
                 FROM shop.seq_1_to_60000;
             CREATE USER backup@localhost IDENTIFIED BY '{PASSWORD}'; GRANT ALL ON *.* TO backup@localhost"
        ));
        instance.write_defaults(PASSWORD);
        instance
    }

    fn write_defaults(&self, password: &str) {
        let path = self.root.join("my.cnf");
        let socket = self.root.join("db.sock");
        fs::write(&path, format!("[client]\nuser=backup\npassword={password}\nsocket={}\n", socket.display())).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    }

    fn sql(&self, statements: &str) -> String {
        let mut client = Command::new("mariadb");
        let socket = format!("--socket={}", self.root.join("db.sock").display());
        let output = client.args(["--no-defaults", "-uroot", &socket, "-N", "-e", statements]).output().unwrap();
        assert!(output.status.success(), "{}", both_outputs(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    fn config(&self) -> PathBuf {
        let at = |name: &str| self.root.join(name).display().to_string();
        let path = self.root.join("volbak.toml");
        let text = format!(
            "backup_destination = '{}'\nrequire_mount = false\nenable_lvmsnapshots = false\nenable_mysql_dump = true\n\
             backups_retention_days = 7\n[dumps]\nknown_hosts = '{}'\n[[dumps.instance]]\nname = 'shop db'\n\
             host = '127.0.0.1'\nport = {}\nkey = '{}'\nkind = 'mariadb'\ndefaults_file = '{}'\ndirectory = '{}'\n",
            at("dest"),
            at("known_hosts"),
            self.port,
            at("key"),
            at("my.cnf"),
            at("du mps")
        );
        fs::write(&path, text).unwrap();
        path
    }

    /// A night; and how often the dump was seen among the processes, none of which shows the password.
    fn night(&self) -> (Output, u32) {
        let mut child = Command::new(env!("CARGO_BIN_EXE_volbak"))
            .args(["--quiet", "run", "--config"])
            .arg(self.config())
            .env(VARIABLE, "another-secret")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut seen = 0;
        while child.try_wait().unwrap().is_none() {
            let shown = sh("ps -ww -eo args");
            assert!(!shown.contains(PASSWORD) && !shown.contains("another-secret"), "a password in ps:\n{shown}");
            seen += u32::from(shown.lines().any(|line| line.contains("mariadb-dump --defaults-file=")));
            for environment in sh(&format!("grep -lz {VARIABLE} /proc/[0-9]*/environ 2>/dev/null || true")).lines() {
                let pid = environment.split('/').nth(2).unwrap();
                let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
                // A child has our environment until it has become the program: so it is read again.
                if ["ssh", "sh", "mariadb-dump"].contains(&name.trim()) {
                    let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
                    let has_it = environment.windows(VARIABLE.len()).any(|part| part == VARIABLE.as_bytes());
                    assert!(!has_it, "{name} has the mail password");
                }
            }
        }
        (child.wait_with_output().unwrap(), seen)
    }

    fn dumps(&self) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(self.root.join("du mps"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

#[test]
fn a_dump_arrives_and_is_restorable_and_its_password_is_never_seen() {
    let directory = tempfile::tempdir().unwrap();
    let instance = Instance::start(directory.path());
    let expected = instance.sql("CHECKSUM TABLE shop.orders; SELECT COUNT(*) FROM shop.orders");
    assert!(expected.ends_with("60000\n"), "{expected}");
    fs::create_dir(instance.root.join("du mps")).unwrap();
    let kept = ["volbak-other-2020-01-01_010000.sql.gz", "notes", "volbak-shop_db-x.sql.gz"];
    for name in
        kept.iter().chain(&["volbak-shop_db-2020-01-01_010000.sql.gz", "volbak-shop_db-2020-01-02_010000.sql.gz"])
    {
        fs::write(instance.root.join("du mps").join(name), "old").unwrap();
    }

    let (output, seen) = instance.night();
    assert_eq!(output.status.code(), Some(0), "{}", both_outputs(&output));
    eprintln!("the dump was seen {seen} times in ps, its password never");
    assert!(seen > 0);
    let mut dumps = instance.dumps();
    assert!(!dumps.contains(&"volbak-shop_db-2020-01-01_010000.sql.gz".to_owned()), "the old one is gone: {dumps:?}");
    dumps.retain(|name| !kept.contains(&name.as_str()) && !name.contains("2020-01-02"));
    let [dump] = &dumps[..] else { panic!("{dumps:?}") };
    let dump = instance.root.join("du mps").join(dump);
    assert_eq!(fs::metadata(&dump).unwrap().permissions().mode() & 0o777, 0o600);

    instance.sql("DROP DATABASE shop");
    sh(&format!(
        "gzip -dc '{}' | mariadb --no-defaults -uroot --socket={}",
        dump.display(),
        instance.root.join("db.sock").display()
    ));
    assert_eq!(instance.sql("CHECKSUM TABLE shop.orders; SELECT COUNT(*) FROM shop.orders"), expected);

    // A wrong password: said, and nothing of the dump is left.
    let before = instance.dumps();
    instance.write_defaults("wrong");
    let (output, _) = instance.night();
    assert_eq!(output.status.code(), Some(3), "{}", both_outputs(&output));
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains("dump: shop db: exit status: 1") && said.contains("Access denied"), "{said}");
    assert_eq!(instance.dumps(), before);
    instance.write_defaults(PASSWORD);

    // Another host's key: no connection at all.
    let known = instance.root.join("known_hosts");
    sh(&format!(
        "ssh-keygen -q -t ed25519 -N '' -f {0}/x; echo \"[127.0.0.1]:{1} $(cut -d' ' -f1,2 {0}/x.pub)\" >{2}",
        instance.root.display(),
        instance.port,
        known.display()
    ));
    let (output, seen) = instance.night();
    let said = both_outputs(&output);
    assert!(output.status.code() == Some(3) && said.contains("Host key verification failed"), "{said}");
    assert_eq!((instance.dumps(), seen), (before, 0));
}
