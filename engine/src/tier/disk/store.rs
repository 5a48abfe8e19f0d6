//! The records in a folder: writes, reads and deletes their files, within the byte budget. Runs on
//! the disk's thread.
//!
//! A file is written aside and synced, then renamed, then the folder is synced: after a crash at any
//! moment a record is there whole or not at all. A file's time of modification is when its record
//! was used last, so that the order outlasts the process. A file that is not what it should be is
//! renamed to `<name>.bad` and never read again.
//! Invariant: files in the folder are in the books (`index.rs`) unless the disk failed, and take no
//! more than the budget unless pins hold more.

use super::{
    DiskConfig, DiskError,
    calendar::Calendar,
    files::{Files, Found, Lock, Opened},
    index::{Held, Index},
    spares::Spares,
};
use crate::{
    Clock, FragmentId,
    tier::{
        Entry, Figures, Kv, Notice,
        record::{ENDING, Flaw, Form, Head, file_name, read_name},
        troubles::Troubles,
        worker::Records,
    },
};
use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

/// The records of one model.
pub struct Store {
    files: Box<dyn Files>,
    folder: PathBuf,
    form: Form,
    bytes_max: u64,
    calendar: Calendar,
    index: Index,
    /// Numbers files that are written aside.
    asides: u64,
    troubles: Troubles,
    evicted: u64,
    refused: u64,
    notices: Vec<Notice>,
    spares: Spares,
    _lock: Lock,
}

/// Why a record was not written.
enum NotKept {
    /// It has no place in this store.
    Refused(String),
    Failed(io::Error),
}

impl From<io::Error> for NotKept {
    fn from(error: io::Error) -> Self {
        Self::Failed(error)
    }
}

/// Takes a model's folder for this process, made when it is missing.
pub(crate) fn take(dir: &Path, folder: &Path, files: &dyn Files) -> Result<Lock, DiskError> {
    files.create_folder(folder).map_err(cannot("make", folder))?;
    files.sync_folder(dir).map_err(cannot("sync", folder))?;
    let lock = files.lock(&folder.join("lock")).map_err(cannot("lock", folder))?;
    lock.ok_or_else(|| DiskError::InUse(folder.to_owned()))
}

fn cannot(what: &'static str, folder: &Path) -> impl FnOnce(io::Error) -> DiskError {
    let path = folder.to_owned();
    move |source| DiskError::Io { what, path, source }
}

impl Store {
    /// Takes the folder for this process, and reads what is there.
    pub(crate) fn open(
        config: DiskConfig,
        clock: Arc<dyn Clock>,
        files: Box<dyn Files>,
    ) -> Result<Self, DiskError> {
        let folder = config.folder();
        let lock = take(&config.dir, &folder, &*files)?;
        let found = files.list(&folder).map_err(cannot("list", &folder))?;
        let mut store = Self {
            files,
            folder,
            bytes_max: config.bytes_max,
            form: Form::new(config.origin),
            calendar: Calendar::new(clock, lock.taken_at),
            index: Index::default(),
            asides: 0,
            troubles: Troubles::of("disk"),
            evicted: 0,
            refused: 0,
            notices: Vec::new(),
            spares: Spares::default(),
            _lock: lock,
        };
        store.take_in(found);
        Ok(store)
    }

    /// The latest trouble.
    #[cfg(test)]
    pub(crate) fn trouble(&self) -> Option<&str> {
        self.troubles.last.as_deref()
    }

    /// Writes a record's file, once there is room; what was there under its id goes first.
    fn write(&mut self, entry: Entry, kv: &[u8]) -> Result<(), NotKept> {
        self.delete(entry.id)?;
        let refused = |flaw: Flaw| NotKept::Refused(flaw.to_string());
        let head = self.form.encode(&entry, kv).map_err(refused)?;
        let bytes = (head.len() + kv.len()) as u64;
        let (pinned, limit) = (self.index.bytes_pinned(), self.bytes_max);
        if pinned.saturating_add(bytes) > limit {
            let why =
                format!("it takes {bytes} bytes beside {pinned} pinned; the limit is {limit}");
            return Err(NotKept::Refused(why));
        }
        self.make_room(bytes)?;
        let path = self.folder.join(file_name(entry.id, entry.pinned));
        let aside = self.folder.join(format!("{}{ASIDE}{}", entry.id, self.asides));
        self.asides += 1;
        let used_at = self.calendar.next();
        self.write_durably(&aside, &path, &[&head, kv], used_at).inspect_err(|_| {
            // At most one of them is there. If it stays, the next opening deals with it.
            let _ = self.files.remove(&aside);
            let _ = self.files.remove(&path);
        })?;
        self.index.enter(Held { entry, bytes, used_at, is_doubtful: false });
        Ok(())
    }

    fn write_durably(
        &self,
        aside: &Path,
        path: &Path,
        parts: &[&[u8]],
        modified: std::time::SystemTime,
    ) -> io::Result<()> {
        self.files.write(aside, parts, modified)?;
        self.files.rename(aside, path)?;
        self.files.sync_folder(&self.folder)
    }

    /// Deletes files that were set aside, then records, least recently used first and sealed ones
    /// last (`index.rs`), until so many bytes fit or only pinned records are left.
    fn make_room(&mut self, bytes: u64) -> io::Result<()> {
        while self.index.bytes() + bytes > self.bytes_max {
            if self.index.bad_len() > 0 {
                self.drop_bad();
                continue;
            }
            let Some(id) = self.index.to_give_up(self.bytes_max) else { break };
            self.delete(id)?;
            self.evicted += 1;
            self.notices.push(Notice::Gone(id));
        }
        Ok(())
    }

    /// Deletes a record's file and forgets the record, if it is there.
    fn delete(&mut self, id: FragmentId) -> io::Result<()> {
        let Some(held) = self.index.get(id) else { return Ok(()) };
        match self.files.remove(&self.folder.join(held.name())) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => self.index.forget(id),
        };
        Ok(())
    }

    /// Dates a record's latest use.
    fn touch(&mut self, id: FragmentId) {
        let Some(held) = self.index.get_mut(id) else { return };
        held.used_at = self.calendar.next();
        let touched = self.files.touch(&self.folder.join(held.name()), held.used_at);
        if let Err(error) = touched {
            self.troubles.write_failed("touch", id, &error);
        }
    }

    /// Takes in what is in the folder, whatever a crash left there, then keeps the budget, which
    /// may have been larger.
    fn take_in(&mut self, mut found: Vec<Found>) {
        found.sort_by(|a, b| (a.modified, &a.name).cmp(&(b.modified, &b.name)));
        for file in found {
            if file.name.ends_with(BAD) {
                self.add_bad(file.name, file.bytes);
            } else if file.name.contains(ASIDE) {
                if let Err(error) = self.files.remove(&self.folder.join(&file.name)) {
                    self.troubles.write_failed("remove", &file.name, &error);
                }
            } else if file.name.ends_with(ENDING) {
                self.take_in_record(file);
            }
        }
        if let Err(error) = self.make_room(0) {
            self.troubles.write_failed("make room in", self.folder.display(), &error);
        }
        // Nobody has heard of what is gone.
        self.notices.clear();
    }

    fn take_in_record(&mut self, Found { name, bytes, modified }: Found) {
        self.calendar.follow(modified);
        let Some((id, pinned)) = read_name(&name) else {
            return self.set_aside(&name, bytes, "its name is not that of a record");
        };
        if self.index.get(id).is_some() {
            return self.set_aside(&name, bytes, "its record is there, pinned and not pinned");
        }
        match self.head(&name, (id, pinned)) {
            Ok(head) => {
                let entry = head.entry;
                self.index.enter(Held { entry, bytes, used_at: modified, is_doubtful: false });
            }
            Err(Flaw::Io(error)) => self.troubles.read_failed(&name, &error),
            Err(flaw) => self.set_aside(&name, bytes, &flaw.to_string()),
        }
    }

    fn head(&self, name: &str, whose: (FragmentId, bool)) -> Result<Head, Flaw> {
        let mut none = Spares::default();
        let mut file = Opened::new(&*self.files, &self.folder.join(name), &mut none)?;
        let bytes = file.bytes;
        self.form.head(&mut file, bytes, whose)
    }

    /// Keeps a file for whoever wants to know what happened to it.
    fn set_aside(&mut self, name: &str, bytes: u64, why: &str) {
        self.troubles.set_aside(name, why);
        let bad = format!("{name}{BAD}");
        match self.files.rename(&self.folder.join(name), &self.folder.join(&bad)) {
            Ok(()) => self.add_bad(bad, bytes),
            Err(error) => self.troubles.write_failed("set aside", name, &error),
        }
    }

    fn add_bad(&mut self, name: String, bytes: u64) {
        self.index.enter_bad(name, bytes);
        if self.index.bad_len() > BAD_FILES_MAX {
            self.drop_bad();
        }
    }

    /// Deletes the oldest file that was set aside.
    fn drop_bad(&mut self) {
        let Some(name) = self.index.forget_bad() else { return };
        if let Err(error) = self.files.remove(&self.folder.join(&name)) {
            self.troubles.write_failed("remove", &name, &error);
        }
    }
}

impl Records for Store {
    const IN_MEMORY: bool = false;

    fn entries(&self) -> Vec<Entry> {
        self.index.entries()
    }

    /// Writes a record, unless it is there. `Kept` or `Gone` follows.
    fn keep(&mut self, entry: Entry, kv: &Kv) {
        let (id, pinned) = (entry.id, entry.pinned);
        let is_there =
            self.index.get(id).is_some_and(|held| !held.is_doubtful && held.entry.is_of(&entry));
        if is_there {
            self.pin(id, pinned);
            self.touch(id);
            return self.notices.push(Notice::Kept(id));
        }
        let notice = match self.write(entry, kv) {
            Ok(()) => {
                self.troubles.succeeded();
                Notice::Kept(id)
            }
            Err(NotKept::Refused(why)) => {
                tracing::debug!(%id, why, "the disk tier refuses a record");
                self.refused += 1;
                Notice::Gone(id)
            }
            Err(NotKept::Failed(error)) => {
                self.troubles.write_failed("keep", id, &error);
                Notice::Gone(id)
            }
        };
        self.notices.push(notice);
    }

    /// Reads and verifies a record's KV.
    fn fetch(&mut self, asked: &Entry) -> Option<Kv> {
        let id = asked.id;
        let held = self.index.get_mut(id).filter(|held| held.entry.is_of(asked))?;
        let name = held.name();
        let read = Opened::new(&*self.files, &self.folder.join(&name), &mut self.spares)
            .map_err(Flaw::from)
            .and_then(|mut file| {
                let bytes = file.bytes;
                self.form.read(&mut file, bytes, &held.entry)
            });
        match read {
            Ok(kv) => {
                held.is_doubtful = false;
                self.touch(id);
                let kv = Arc::new(kv);
                self.spares.note(&kv);
                return Some(kv);
            }
            Err(Flaw::Io(error)) => {
                held.is_doubtful = true;
                if error.kind() == io::ErrorKind::NotFound {
                    self.index.forget(id);
                }
                self.troubles.read_failed(&name, &error);
            }
            Err(flaw) => {
                let bytes = self.index.forget(id).bytes;
                self.set_aside(&name, bytes, &flaw.to_string());
            }
        }
        None
    }

    /// Lets the system read a record's file ahead.
    fn expect(&mut self, id: FragmentId) {
        if let Some(held) = self.index.get(id) {
            // What is wrong with the file shows when it is fetched.
            let _ = self.files.read_ahead(&self.folder.join(held.name()));
        }
    }

    /// Deletes a record, if it is there: no crash brings it back.
    fn remove(&mut self, id: FragmentId) {
        if self.index.get(id).is_none() {
            return;
        }
        let removed = self.delete(id).and_then(|()| self.files.sync_folder(&self.folder));
        if let Err(error) = removed {
            self.troubles.write_failed("remove", id, &error);
        }
    }

    /// A record is pinned by its file's name.
    fn pin(&mut self, id: FragmentId, pinned: bool) {
        let held = self.index.get_mut(id).filter(|held| held.entry.pinned != pinned);
        let Some(held) = held else { return };
        let from = self.folder.join(held.name());
        let renamed = self.files.rename(&from, &self.folder.join(file_name(id, pinned)));
        let durable = renamed.and_then(|()| {
            held.entry.pinned = pinned;
            self.files.sync_folder(&self.folder)
        });
        if let Err(error) = durable {
            self.troubles.write_failed("pin", id, &error);
        }
    }

    /// What came of the calls since the last time.
    fn take_notices(&mut self) -> Vec<Notice> {
        std::mem::take(&mut self.notices)
    }

    fn figures(&self) -> Figures {
        let (records, bytes) = (self.index.len(), self.index.bytes());
        let (evicted, refused) = (self.evicted, self.refused);
        Figures { records, bytes, evicted, refused, ..self.troubles.figures() }
    }
}

/// Stands in the name of a file that is being written, after the id and before a number.
const ASIDE: &str = ".tmp-";
/// Ends the name of a file that was set aside.
const BAD: &str = ".bad";
/// Files set aside that are kept: enough to see a pattern.
const BAD_FILES_MAX: usize = 16;
