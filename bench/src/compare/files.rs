//! Files: values in place in plain files, each write followed by fdatasync.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;

use super::peer::Peer;
use super::{CompareError, Setup};

/// So many files at most: a flush of one does not wait for what is written to others, and each takes a descriptor.
const FILES_MAX: u64 = 256;
const FILE_VALUES_MIN: u64 = 1024;

/// See the module.
pub(super) struct Files {
    handles: Vec<File>,
    file_values: u64,
    value_bytes: u64,
}

fn io(doing: &'static str) -> impl FnOnce(std::io::Error) -> CompareError {
    move |error| CompareError::Io { doing, error }
}

impl Files {
    pub(super) fn open(setup: &Setup) -> Result<Self, CompareError> {
        let file_values = setup.values().div_ceil(FILES_MAX).max(FILE_VALUES_MIN);
        let files = (0..setup.values().div_ceil(file_values)).map(|number| {
            let path = setup.directory.join(format!("values-{number:03}"));
            OpenOptions::new().read(true).write(true).create_new(true).open(path).map_err(io("making a file"))
        });
        Ok(Self { handles: files.collect::<Result<_, _>>()?, file_values, value_bytes: setup.value_bytes() })
    }

    fn place(&self, number: u64) -> (&File, u64) {
        let file = usize::try_from(number / self.file_values).expect("few");
        (&self.handles[file], number % self.file_values * self.value_bytes)
    }
}

impl Peer for Files {
    fn write(&self, number: u64, value: &[u8]) -> Result<(), CompareError> {
        let (file, offset) = self.place(number);
        file.write_all_at(value, offset).and_then(|()| file.sync_data()).map_err(io("writing"))
    }

    fn read(&self, number: u64, value: &mut Vec<u8>) -> Result<(), CompareError> {
        value.resize(usize::try_from(self.value_bytes).expect("small"), 0);
        let (file, offset) = self.place(number);
        file.read_exact_at(value, offset).map_err(io("reading"))
    }

    fn load(&self, values: &[(u64, Vec<u8>)]) -> Result<(), CompareError> {
        for (number, value) in values {
            let (file, offset) = self.place(*number);
            file.write_all_at(value, offset).map_err(io("writing"))?;
        }
        Ok(())
    }

    fn settle(&self) -> Result<(), CompareError> {
        self.handles.iter().try_for_each(File::sync_all).map_err(io("flushing"))
    }

    fn written_bytes(&self) -> Option<u64> {
        None
    }

    fn options(&self) -> String {
        format!("{} files, pwrite and fdatasync, page cache", self.handles.len())
    }
}
