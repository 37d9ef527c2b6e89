//! Promise: the backups of an object store are mounted as those of a directory are, all of them or one.

use std::fs;
use std::process::Command;

use rustix::process::{Pid, Signal, kill_process};

use crate::storing::Storing;
use crate::testkit::wait::wait_until;
use crate::verbs::Place;

/// Mounts with these arguments, and returns the first names there and a file of the volume.
fn read_there(place: &Place, arguments: &[&str], file: &str) -> (Vec<String>, String) {
    let point = place.host.at("point");
    fs::create_dir_all(&point).unwrap();
    let is_mounted = || Command::new("mountpoint").arg("-q").arg(&point).status().unwrap().success();
    let arguments = [&["mount"], arguments, &[point.to_str().unwrap()]].concat();
    let mut process = place.begin(&arguments);
    wait_until("the mount is there", || {
        assert!(process.try_wait().unwrap().is_none(), "{arguments:?}");
        is_mounted()
    });
    let mut names: Vec<String> =
        fs::read_dir(&point).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    let dates = point.join("volume-1");
    let root = match fs::read_dir(&dates) {
        Ok(mut dates) => dates.next().unwrap().unwrap().path(),
        Err(_) => point.clone(),
    };
    let content = fs::read_to_string(root.join(file)).unwrap();
    kill_process(Pid::from_child(&process), Signal::TERM).unwrap();
    assert!(process.wait().unwrap().success());
    assert!(!is_mounted());
    (names, content)
}

#[test]
fn backups_of_a_store_are_mounted() {
    let server = Storing::start();
    let place = Place::in_process(&server, "");
    place.host.add_ext4("volume-1");
    place.good(&["run"]);
    let address = place.client.address().to_string();
    let archive = place.listed()[0]["archive"].as_str().unwrap().to_owned();
    for all in [&[][..], &["--destination", &address], &[address.as_str()]] {
        let (names, content) = read_there(&place, all, "file7");
        assert!(names == ["volume-1"] && content.starts_with("volume-1 7\n"), "{all:?}: {names:?}");
    }
    for one in ["volume-1", &archive] {
        let (names, content) = read_there(&place, &[one], "file7");
        assert!(names.contains(&"file19".to_owned()) && content.starts_with("volume-1 7\n"), "{one}: {names:?}");
    }
}
