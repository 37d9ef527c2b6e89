//! Reboots an instance from inside, by ssh.

use std::ffi::OsString;
use std::net::IpAddr;

use crate::outside::RunCommand;

/// `shutdown -r now` by ssh. No password is asked for, and the instance's key has to be known. The address came in an answer of
/// the cloud: it is one, or it is not used.
pub(super) fn reboot(user: &str, address: &str, commands: &dyn RunCommand) -> Result<(), String> {
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if user.is_empty() || user.starts_with('-') || !user.bytes().all(is_name) {
        return Err(format!("{user:?} is no name of a user"));
    }
    let address: IpAddr = address.parse().map_err(|_| format!("{address:?} is no address"))?;
    // An instance that is gone before it closes the connection is not waited for.
    let options = ["BatchMode=yes", "StrictHostKeyChecking=yes", "ConnectTimeout=10", "ServerAliveInterval=5"];
    let mut all: Vec<OsString> = options.iter().flat_map(|option| ["-o", option]).map(OsString::from).collect();
    all.extend(["-l", user, "--"].map(OsString::from));
    all.extend([address.to_string(), "shutdown -r now".to_owned()].map(OsString::from));
    let output = commands.run("ssh", &all).map_err(|error| format!("ssh cannot be started: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    // The connection may end before the command does.
    if output.status.success() || said.contains("closed by remote host") {
        return Ok(());
    }
    let last = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("ssh said nothing").to_owned();
    Err(format!("{last} (reboot it from its console, or by `ssh {user}@{address} shutdown -r now`)"))
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

    #[test]
    fn nothing_but_an_address_of_a_known_host_is_called() {
        let ssh = Ssh(0, "", Mutex::default());
        reboot("root", "127.0.1.10", &ssh).unwrap();
        for (user, address) in
            [("root", "-oProxyCommand=x"), ("root", "h"), ("-l", "127.0.1.10"), ("a b", "127.0.1.10"), ("", "::1")]
        {
            reboot(user, address, &ssh).unwrap_err();
        }
        let called = ssh.2.into_inner().unwrap();
        assert_eq!(called.len(), 1);
        assert!(
            called[0].contains("BatchMode=yes -o StrictHostKeyChecking=yes")
                && called[0].ends_with("-l root -- 127.0.1.10 shutdown -r now")
        );
        let refused =
            reboot("root", "::1", &Ssh(255, "Host key verification failed.\n", Mutex::default())).unwrap_err();
        assert!(refused.contains("Host key verification failed"), "{refused}");
        reboot("root", "::1", &Ssh(255, "Connection to ::1 closed by remote host.\n", Mutex::default())).unwrap();
    }
}
