//! Removes features from a mkfs call that this machine's mkfs does not support: an older one would refuse to make
//! anything. Each enabled one is reported.

use std::ffi::OsString;
use std::io::Write;
use std::os::fd::AsRawFd;

use rustix::fs::MemfdFlags;

use super::makefs::call::ToolCall;
use crate::outside::RunCommand;

/// Removes unsupported features, and returns those that were enabled.
pub(super) fn without_unknown_features(call: &mut ToolCall, commands: &dyn RunCommand) -> Vec<String> {
    match call.program {
        "mkfs.ext4" => ext(call, commands),
        "mkfs.xfs" => match commands.run("mkfs.xfs", &[]) {
            // Without arguments it prints its usage with each flag as `nrext64=0|1`.
            Ok(output) => xfs(call, &String::from_utf8_lossy(&[output.stdout, output.stderr].concat())),
            Err(_) => Vec::new(),
        },
        "mkfs.btrfs" => {
            let listed = |option: &str| {
                let output = commands.run("mkfs.btrfs", &[option.into(), "list-all".into()]).ok()?;
                Some(String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
            };
            btrfs(call, &listed("-O").unwrap_or_default())
        }
        _ => Vec::new(),
    }
}

/// Tests each feature with mke2fs `-n`, which writes nothing.
fn ext(call: &mut ToolCall, commands: &dyn RunCommand) -> Vec<String> {
    let Some(at) = call.args.iter().position(|arg| arg == "-O").map(|at| at + 1) else { return Vec::new() };
    let Some(list) = call.args.get(at).and_then(|list| list.to_str()) else { return Vec::new() };
    let knows = |features: &str| -> bool {
        let Ok(file) = rustix::fs::memfd_create("volbak-features", MemfdFlags::CLOEXEC).map(std::fs::File::from) else {
            return true;
        };
        let path = format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd());
        let args: Vec<OsString> =
            ["-n", "-F", "-O", features, &path, "65536"].into_iter().map(OsString::from).collect();
        // Other errors concern dependencies between features, which the full list meets.
        (&file).write_all(&[0]).is_err()
            || commands
                .run("mkfs.ext4", &args)
                .is_ok_and(|output| !String::from_utf8_lossy(&output.stderr).contains("Invalid filesystem option set"))
    };
    if knows(list) {
        return Vec::new();
    }
    let (known, unknown): (Vec<&str>, Vec<&str>) =
        list.split(',').partition(|feature| *feature == "none" || knows(&format!("none,{feature}")));
    let unknown = unknown.into_iter().map(str::to_owned).collect();
    let known = OsString::from(known.join(","));
    call.args[at] = known;
    unknown
}

fn xfs(call: &mut ToolCall, usage: &str) -> Vec<String> {
    let mut unknown = Vec::new();
    for arg in &mut call.args {
        let Some(text) = arg.to_str().filter(|text| text.contains('=')) else { continue };
        let is_known = |flag: &&str| match flag.split_once('=') {
            // Options with a number.
            Some(("agnum" | "maxpct" | "version", _)) => true,
            Some((name, "0" | "1")) => usage.contains(&format!("{name}=0|1")),
            _ => true,
        };
        let (known, others): (Vec<&str>, Vec<&str>) = text.split(',').partition(is_known);
        let on = others.iter().filter_map(|flag| flag.strip_suffix("=1"));
        unknown.extend(on.map(str::to_owned));
        let known = OsString::from(known.join(","));
        *arg = known;
    }
    unknown
}

/// Each line of `mkfs.btrfs -O list-all` starts with the name of a feature.
fn btrfs(call: &mut ToolCall, listed: &str) -> Vec<String> {
    let is_known = |flag: &&str| {
        let name = flag.trim_start_matches('^');
        listed.lines().any(|line| line.split_ascii_whitespace().next() == Some(name))
    };
    // A list without a feature that has always existed is invalid.
    let Some(at) = call.args.iter().position(|arg| arg == "-O").filter(|_| is_known(&"extref")) else {
        return Vec::new();
    };
    let Some(list) = call.args.get(at + 1).and_then(|list| list.to_str()) else { return Vec::new() };
    let (known, others): (Vec<&str>, Vec<&str>) = list.split(',').partition(is_known);
    let unknown = others.into_iter().filter(|flag| !flag.starts_with('^')).map(str::to_owned).collect();
    let known = OsString::from(known.join(","));
    call.args[at + 1] = known;
    unknown
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::{btrfs, without_unknown_features, xfs};
    use crate::outside::SystemCommands;
    use crate::run::rebuild::makefs::call::ToolCall;

    fn call(program: &'static str, args: &[&str]) -> ToolCall {
        ToolCall { program, args: args.iter().map(OsString::from).collect() }
    }

    #[test]
    fn a_feature_of_the_future_is_left_out() {
        let mut call = call("mkfs.ext4", &["-O", "none,extent,time_travel,64bit"]);
        assert_eq!(without_unknown_features(&mut call, &SystemCommands), ["time_travel"]);
        assert_eq!(call.args, ["-O", "none,extent,64bit"]);
        assert!(without_unknown_features(&mut call, &SystemCommands).is_empty());
    }

    #[test]
    fn features_that_are_not_listed_are_left_out() {
        let listed = "Filesystem features available:\nmixed-bg            - mixed\nextref              - increased\n";
        let mut new = call("mkfs.btrfs", &["-O", "extref,^mixed-bg,block-group-tree,^no-holes"]);
        assert_eq!(btrfs(&mut new, listed), ["block-group-tree"]);
        assert_eq!(new.args, ["-O", "extref,^mixed-bg"]);
        assert!(btrfs(&mut new, "no list").is_empty());
        // This machine's own list contains it.
        let mut new = call("mkfs.btrfs", &["-O", "extref,time-travel"]);
        assert_eq!(without_unknown_features(&mut new, &SystemCommands), ["time-travel"]);
    }

    #[test]
    fn flags_that_the_usage_does_not_have_are_left_out() {
        let usage = "/* metadata */ [-m crc=0|1,finobt=0|1,uuid=xxx]\n/* inode size */ [-i size=num,sparse=0|1]";
        let mut call = call("mkfs.xfs", &["-m", "uuid=a-b,crc=1,finobt=0,bigtime=1", "-i", "size=512,nrext64=0"]);
        assert_eq!(xfs(&mut call, usage), ["bigtime"]);
        assert_eq!(call.args, ["-m", "uuid=a-b,crc=1,finobt=0", "-i", "size=512"]);
    }
}
