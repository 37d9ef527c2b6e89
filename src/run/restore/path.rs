//! Splits the paths of an archive.

/// Why a path of an archive is rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadPath {
    /// It contains `..`.
    #[error("its path leads out of the directory with `..`")]
    Upwards,
    /// It contains a NUL byte.
    #[error("its path holds a zero byte")]
    Zero,
    /// It is empty.
    #[error("its path names nothing")]
    Empty,
    /// It is in another part of the archive.
    #[error("its path leads to another filesystem of the archive")]
    Elsewhere,
}

/// The components of a path, without empty ones and `.`; a leading `/` is dropped, as in tar.
pub fn parts_of(path: &[u8]) -> Result<Vec<&[u8]>, BadPath> {
    let mut parts = Vec::new();
    for part in path.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => return Err(BadPath::Upwards),
            part if part.contains(&0) => return Err(BadPath::Zero),
            part => parts.push(part),
        }
    }
    Ok(parts)
}

/// The components of a path behind those of `below`.
pub fn parts_below<'a>(path: &'a [u8], below: &[u8]) -> Result<Vec<&'a [u8]>, BadPath> {
    let (mut parts, below) = (parts_of(path)?, parts_of(below)?);
    if !parts.starts_with(&below) {
        return Err(BadPath::Elsewhere);
    }
    parts.drain(..below.len());
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use super::{BadPath, parts_of};

    #[test]
    fn paths_stay_inside() {
        assert_eq!(parts_of(b"./a//b/./c/"), Ok(vec![b"a".as_slice(), b"b", b"c"]));
        assert_eq!(parts_of(b"/etc/passwd"), Ok(vec![b"etc".as_slice(), b"passwd"]));
        for outward in [b"..".as_slice(), b"a/../b", b"../x", b"a/.."] {
            assert_eq!(parts_of(outward), Err(BadPath::Upwards));
        }
        assert_eq!(parts_of(b"a\0b"), Err(BadPath::Zero));
        assert_eq!(parts_of(b"./"), Ok(Vec::new()));
        assert_eq!(parts_of(b"..a/b.."), Ok(vec![b"..a".as_slice(), b"b.."]));
    }
}
