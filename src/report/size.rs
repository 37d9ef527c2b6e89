//! Sizes, shares and times as the documented format prints them.

/// A size as `du -h` prints it: powers of 1024, rounded up, one decimal under 10 and none from 10 on (`0`, `512`,
/// `3,5G`, `267G`).
pub fn du_size(bytes: u64, decimal_separator: char) -> String {
    const UNITS: [char; 6] = ['K', 'M', 'G', 'T', 'P', 'E'];
    if bytes < 1024 {
        return bytes.to_string();
    }
    let mut unit_bytes = 1024_u64;
    let mut unit = 0;
    loop {
        // At most 16 units of 2^60 bytes each: ten times that fits in 128 bits.
        let tenths = (u128::from(bytes) * 10).div_ceil(u128::from(unit_bytes));
        if tenths < 100 {
            return format!("{}{decimal_separator}{}{}", tenths / 10, tenths % 10, UNITS[unit]);
        }
        let whole = bytes.div_ceil(unit_bytes);
        if whole < 1024 || unit + 1 == UNITS.len() {
            return format!("{whole}{}", UNITS[unit]);
        }
        unit += 1;
        unit_bytes *= 1024;
    }
}

/// The share of a filesystem in use as `df` prints it: used / (used + available), rounded up to whole percents.
pub fn df_percent(used_bytes: u64, available_bytes: u64) -> u64 {
    let all = u128::from(used_bytes) + u128::from(available_bytes);
    if all == 0 {
        return 0;
    }
    u64::try_from((u128::from(used_bytes) * 100).div_ceil(all)).unwrap_or(100)
}

/// A time as the report prints it: `1 h 15 m and 35 seconds`, hours counting on past 24.
pub fn shown_duration(seconds: u64) -> String {
    format!("{} h {} m and {} seconds", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use proptest::{prop_assert, proptest};

    use super::{df_percent, du_size, shown_duration};

    const EDGES: [u64; 24] = [
        0,
        1,
        1023,
        1024,
        1025,
        1536,
        10_188,
        10_189,
        10_239,
        10_240,
        10_241,
        1_023 << 10,
        (1 << 20) - 1,
        1 << 20,
        (1 << 20) + 1,
        10_380_902,
        10_380_903,
        (10 << 20) - 1,
        3_650_722_201,
        (10 << 30) - 1,
        286_689_754_317,
        (1 << 40) - 1,
        1 << 50,
        i64::MAX.unsigned_abs(),
    ];

    #[test]
    fn sizes_as_documented() {
        assert_eq!(du_size(0, ','), "0");
        assert_eq!(du_size(3_758_096_384, ','), "3,5G");
        assert_eq!(du_size(267 << 30, ','), "267G");
        assert_eq!(du_size(3_758_096_384, '.'), "3.5G");
        assert_eq!(du_size(u64::MAX, '.'), "16E");
    }

    /// What `du -h --apparent-size` really prints for a sparse file of each size.
    #[test]
    fn sizes_as_du_prints_them() {
        let directory = tempfile::tempdir().unwrap();
        // The file size limit of the filesystem may be below the largest edge.
        for bytes in EDGES.into_iter().filter(|bytes| *bytes <= 1 << 40) {
            let path = directory.path().join("file");
            std::fs::File::create(&path).unwrap().set_len(bytes).unwrap();
            let output =
                Command::new("du").args(["-h", "--apparent-size"]).arg(&path).env("LC_ALL", "C").output().unwrap();
            let text = String::from_utf8(output.stdout).unwrap();
            assert_eq!(du_size(bytes, '.'), text.split_whitespace().next().unwrap(), "{bytes} bytes");
        }
    }

    /// numfmt rounds in the same way, and accepts sizes larger than any file.
    #[test]
    fn sizes_as_numfmt_prints_them() {
        let mut sizes: Vec<u64> = EDGES.to_vec();
        for shift in 0..53 {
            for step in [7_u64, 10, 97, 999, 1023] {
                sizes.extend([(step << shift) - 1, step << shift, (step << shift) + 1]);
            }
        }
        // It computes with long double; beyond 2^53 its rounding of one byte more is its own.
        sizes.retain(|bytes| *bytes < 1 << 53);
        let mut command = Command::new("numfmt");
        command.args(["--to=iec", "--round=up"]).args(sizes.iter().map(u64::to_string)).env("LC_ALL", "C");
        let text = String::from_utf8(command.output().unwrap().stdout).unwrap();
        assert_eq!(text.lines().count(), sizes.len());
        for (bytes, line) in sizes.iter().zip(text.lines()) {
            assert_eq!(du_size(*bytes, '.'), line, "{bytes} bytes");
        }
    }

    #[test]
    fn shares_as_df_prints_them() {
        assert_eq!(df_percent(35, 65), 35);
        assert_eq!(df_percent(351, 649), 36);
        assert_eq!(df_percent(1, 1_000_000), 1);
        assert_eq!(df_percent(0, 0), 0);
        assert_eq!(df_percent(u64::MAX, 0), 100);
        assert_eq!(df_percent(u64::MAX, u64::MAX), 50);
    }

    /// What `df` really prints for every filesystem of this machine, from its own figures.
    #[test]
    fn shares_as_df_really_prints_them() {
        let output = Command::new("df").args(["-B1", "--output=used,avail,pcent"]).env("LC_ALL", "C").output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let mut compared = 0;
        for line in text.lines().skip(1) {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let (Ok(used), Ok(available)) = (fields[0].parse(), fields[1].parse()) else { continue };
            if fields[2] != "-" {
                assert_eq!(format!("{}%", df_percent(used, available)), fields[2], "{line}");
                compared += 1;
            }
        }
        assert!(compared > 0, "{text}");
    }

    #[test]
    fn minutes_are_taken_modulo_sixty() {
        assert_eq!(shown_duration(75 * 60 + 35), "1 h 15 m and 35 seconds");
        assert_eq!(shown_duration(81), "0 h 1 m and 21 seconds");
        assert_eq!(shown_duration(100_000), "27 h 46 m and 40 seconds");
    }

    proptest! {
        #[test]
        fn a_size_is_never_printed_too_small(bytes: u64) {
            let text = du_size(bytes, '.');
            let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
            prop_assert!(digits.len() <= 4, "{}", text);
            let shift = text.chars().last().and_then(|unit| "KMGTPE".find(unit)).map_or(0, |at| 10 * (at + 1));
            let tenths: u128 = match digits.split_once('.') {
                Some((whole, tenth)) => whole.parse::<u128>().unwrap() * 10 + tenth.parse::<u128>().unwrap(),
                None => digits.parse::<u128>().unwrap() * 10,
            };
            prop_assert!((tenths << shift) >= u128::from(bytes) * 10, "{}", text);
        }
    }
}
