//! Reboots an instance from inside, by ssh.

use std::ffi::OsString;
use std::net::IpAddr;

use crate::field::is_uuid;
use crate::outside::RunCommand;

/// The status of the command on a machine that is not the instance.
const OTHER_MACHINE: i32 = 9;

/// `shutdown -r now` by ssh. No password is asked for, and the instance's key has to be known. The address came in an answer of
/// the cloud: it is one, or it is not used. A tenant may have chosen it, so that another machine answers there: the command looks
/// first whether it is on this instance.
pub(super) fn reboot(user: &str, address: &str, instance: &str, commands: &dyn RunCommand) -> Result<(), String> {
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if user.is_empty() || user.starts_with('-') || !user.bytes().all(is_name) {
        return Err(format!("{user:?} is no name of a user"));
    }
    let command = command(instance).ok_or_else(|| format!("{instance:?} is no id of an instance"))?;
    let address: IpAddr = address.parse().map_err(|_| format!("{address:?} is no address"))?;
    // An instance that is gone before it closes the connection is not waited for.
    let options = ["BatchMode=yes", "StrictHostKeyChecking=yes", "ConnectTimeout=10", "ServerAliveInterval=5"];
    let mut all: Vec<OsString> = options.iter().flat_map(|option| ["-o", option]).map(OsString::from).collect();
    all.extend(["-l", user, "--"].map(OsString::from));
    all.extend([address.to_string(), command].map(OsString::from));
    let output = commands.run("ssh", &all).map_err(|error| format!("ssh cannot be started: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    // The connection may end before the command does.
    if output.status.success() || said.contains("closed by remote host") {
        return Ok(());
    }
    if output.status.code() == Some(OTHER_MACHINE) {
        return Err(format!(
            "what answers at {address} does not say that it is the instance {instance}: neither its DMI (product_uuid, which root can \
             read) nor cloud-init has that id; nothing was rebooted. Reboot the instance from its console"
        ));
    }
    let last = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("ssh said nothing").to_owned();
    Err(format!("{last} (reboot it from its console, or by `ssh {user}@{address} shutdown -r now`)"))
}

/// Reboots the machine that has the instance's id, for any login shell. Nova gives the id to the instance as the UUID of its DMI
/// (libvirt, `sysinfo`), which old kernels show with its first three fields in another byte order, and as cloud-init's instance id.
fn command(instance: &str) -> Option<String> {
    let id = instance.to_ascii_lowercase();
    if !is_uuid(&id) {
        return None;
    }
    let turned: String = [6, 7, 4, 5, 2, 3, 0, 1, 8, 11, 12, 9, 10, 13, 16, 17, 14, 15]
        .iter()
        .filter_map(|at| id.chars().nth(*at))
        .chain(id.chars().skip(18))
        .collect();
    Some(format!(
        "sh -c 'for f in /sys/class/dmi/id/product_uuid /var/lib/cloud/data/instance-id; do \
         case \"$(cat $f 2>/dev/null | tr A-Z a-z)\" in {id}|{turned}) exec shutdown -r now;; esac; done; \
         exit {OTHER_MACHINE}'"
    ))
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;
    use std::io;
    use std::os::unix::process::ExitStatusExt;
    use std::process::ExitStatus;
    use std::sync::Mutex;

    use super::reboot;
    use crate::outside::{CommandOutput, RunCommand};

    struct Ssh(i32, &'static str, Mutex<Vec<String>>);

    impl RunCommand for Ssh {
        fn run(&self, program: &str, args: &[OsString]) -> io::Result<CommandOutput> {
            let line: Vec<_> = args.iter().map(|arg| arg.to_string_lossy().into_owned()).collect();
            self.2.lock().unwrap().push(format!("{program} {}", line.join(" ")));
            let status = ExitStatus::from_raw(self.0 << 8);
            Ok(CommandOutput { status, stdout: Vec::new(), stderr: self.1.as_bytes().to_vec() })
        }
    }

    const ID: &str = "aabbccdd-eeff-0011-2233-445566778899";

    #[test]
    fn nothing_but_an_address_of_a_known_host_is_called() {
        let ssh = Ssh(0, "", Mutex::default());
        reboot("root", "127.0.1.10", ID, &ssh).unwrap();
        for (user, address, id) in [
            ("root", "-oProxyCommand=x", ID),
            ("root", "h", ID),
            ("-l", "127.0.1.10", ID),
            ("a b", "127.0.1.10", ID),
            ("", "::1", ID),
            ("root", "::1", "'; reboot; '"),
        ] {
            reboot(user, address, id, &ssh).unwrap_err();
        }
        let called = ssh.2.into_inner().unwrap();
        assert_eq!(called.len(), 1);
        assert!(called[0].contains("BatchMode=yes -o StrictHostKeyChecking=yes"), "{called:?}");
        assert!(called[0].contains("-l root -- 127.0.1.10 sh -c '"), "{called:?}");
        assert!(called[0].contains(&format!(" in {ID}|ddccbbaa-ffee-1100-2233-445566778899) exec shutdown -r now;;")));
        let failed = |status, said| reboot("root", "::1", ID, &Ssh(status, said, Mutex::default())).unwrap_err();
        let refused = failed(255, "Host key verification failed.\n");
        assert!(refused.contains("Host key verification failed"), "{refused}");
        let other = failed(9, "");
        assert!(
            other.contains("does not say that it is the instance") && other.contains("nothing was rebooted"),
            "{other}"
        );
        let closed = Ssh(255, "Connection to ::1 closed by remote host.\n", Mutex::default());
        reboot("root", "::1", ID, &closed).unwrap();
    }
}
