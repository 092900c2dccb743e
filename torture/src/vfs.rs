//! A SQLite VFS that records: the system's own, but that writes, truncations, syncs and deletions of files below
//! the recorded folder are noted, in the order in which they happened.
//!
//! The only file that speaks to SQLite's C interface. It copies the system's table of functions and exchanges
//! six of them, so that locks and shared memory stay SQLite's own.
#![allow(unsafe_code, reason = "SQLite's VFS is a C interface")]

use std::collections::HashMap;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, OnceLock};

use rusqlite::ffi::{
    self, SQLITE_FCNTL_PRAGMA, SQLITE_OK, sqlite3_file, sqlite3_filename, sqlite3_int64, sqlite3_io_methods,
    sqlite3_vfs,
};

use crate::image::Op;

/// Whether the store's own settings hold, or a weaker one is slipped under them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strength {
    AsSet,
    /// `PRAGMA synchronous` becomes NORMAL, whatever was asked for.
    Normal,
}

/// What is recorded just now.
pub struct Record(());

#[derive(Default)]
struct State {
    recording: Option<Recording>,
    open: HashMap<usize, Open>,
    /// Tables of functions, the system's and the exchanged one, as addresses.
    tables: Vec<(usize, usize)>,
}

struct Recording {
    below: PathBuf,
    weaken: bool,
    ops: Vec<Op>,
    existing: std::collections::HashSet<PathBuf>,
}

#[derive(Clone)]
struct Open {
    path: PathBuf,
    methods: usize,
}

static STATE: Mutex<Option<State>> = Mutex::new(None);
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
/// The system's VFS, as an address.
static SYSTEM: OnceLock<usize> = OnceLock::new();

/// Runs `work` and returns what SQLite did to files below `folder`. One at a time in a process.
pub fn record(folder: &Path, strength: Strength, work: impl FnOnce(&Record)) -> Vec<Op> {
    install();
    let _one = ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let recording = Recording {
        below: folder.to_owned(),
        weaken: strength == Strength::Normal,
        ops: Vec::new(),
        existing: std::collections::HashSet::new(),
    };
    with(|s| s.recording = Some(recording));
    work(&Record(()));
    with(|s| s.recording.take()).map_or_else(Vec::new, |r| r.ops)
}

impl Record {
    /// How many operations there were so far: what is acknowledged now must survive a cut from here on.
    pub fn ops(&self) -> usize {
        with(|s| s.recording.as_ref().map_or(0, |r| r.ops.len()))
    }
}

impl State {
    /// The recording, if the open file belongs to it, and how the system handles the file.
    fn of(&mut self, file: *mut sqlite3_file) -> (Option<&mut Recording>, Open) {
        let open = self.open.get(&(file as usize)).expect("every file was opened here").clone();
        (self.recording.as_mut().filter(|r| open.path.starts_with(&r.below)), open)
    }
}

impl Open {
    fn methods(&self) -> &'static sqlite3_io_methods {
        // SAFETY: the address of one of the system's tables, which are static.
        unsafe { &*(self.methods as *const sqlite3_io_methods) }
    }
}

fn lock() -> MutexGuard<'static, Option<State>> {
    STATE.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn with<T>(f: impl FnOnce(&mut State) -> T) -> T {
    f(lock().get_or_insert_default())
}

/// Puts the recorder in front of the system's VFS, once.
pub(crate) fn install() {
    SYSTEM.get_or_init(|| {
        // SAFETY: SQLite initialises itself, and its default VFS lives as long as the process.
        let (system, mut recorder) = unsafe {
            let system = ffi::sqlite3_vfs_find(std::ptr::null());
            (system, Box::new(*system))
        };
        recorder.zName = c"davy-torture".as_ptr();
        recorder.pNext = std::ptr::null_mut();
        recorder.xOpen = Some(open);
        recorder.xDelete = Some(delete);
        // SAFETY: the table is complete, and leaked so that it stays.
        let registered = unsafe { ffi::sqlite3_vfs_register(Box::leak(recorder), 1) };
        assert_eq!(registered, SQLITE_OK, "SQLite takes a VFS");
        system as usize
    });
}

fn system() -> *mut sqlite3_vfs {
    *SYSTEM.get().expect("installed before SQLite can call") as *mut sqlite3_vfs
}

unsafe extern "C" fn open(
    _: *mut sqlite3_vfs,
    name: sqlite3_filename,
    file: *mut sqlite3_file,
    flags: c_int,
    out: *mut c_int,
) -> c_int {
    let system = system();
    // SAFETY: SQLite's own arguments go to the VFS whose table was copied; `file` has room for its file.
    let code = unsafe { (*system).xOpen.expect("the system opens files")(system, name, file, flags, out) };
    if code != SQLITE_OK || name.is_null() {
        return code;
    }
    // SAFETY: opened, so `name` is a C string and `file` has a table.
    let (path, methods) = unsafe { (path(name), (*file).pMethods) };
    let patched = with(|s| {
        if let Some(r) = s.recording.as_mut().filter(|r| path.starts_with(&r.below))
            && r.existing.insert(path.clone())
        {
            r.ops.push(Op::Create { file: path.clone() });
        }
        s.open.insert(file as usize, Open { path, methods: methods as usize });
        if let Some((_, patched)) = s.tables.iter().find(|(of, _)| *of == methods as usize) {
            return *patched;
        }
        // SAFETY: the system's table is complete and static.
        let mut table = Box::new(unsafe { *methods });
        table.xClose = Some(close);
        table.xWrite = Some(write);
        table.xTruncate = Some(truncate);
        table.xSync = Some(sync);
        table.xFileControl = Some(file_control);
        let patched = std::ptr::from_ref(Box::leak(table)) as usize;
        s.tables.push((methods as usize, patched));
        patched
    });
    // SAFETY: `file` is open; the table is leaked and so outlives it.
    unsafe { (*file).pMethods = patched as *const sqlite3_io_methods };
    code
}

unsafe extern "C" fn delete(_: *mut sqlite3_vfs, name: *const c_char, sync_dir: c_int) -> c_int {
    // SAFETY: SQLite hands over a C string.
    let file = unsafe { path(name) };
    with(|s| {
        if let Some(r) = s.recording.as_mut().filter(|r| file.starts_with(&r.below)) {
            r.existing.remove(&file);
            r.ops.push(Op::Delete { file, sync_dir: sync_dir != 0 });
        }
    });
    let system = system();
    // SAFETY: as for `open`.
    unsafe { (*system).xDelete.expect("the system deletes files")(system, name, sync_dir) }
}

unsafe extern "C" fn close(file: *mut sqlite3_file) -> c_int {
    let open = with(|s| s.open.remove(&(file as usize))).expect("every file was opened here");
    // SAFETY: the system closes what it opened.
    unsafe { open.methods().xClose.expect("complete table")(file) }
}

unsafe extern "C" fn write(
    file: *mut sqlite3_file,
    bytes: *const c_void,
    len: c_int,
    offset: sqlite3_int64,
) -> c_int {
    let open = with(|s| {
        let (recording, open) = s.of(file);
        if let Some(r) = recording {
            // SAFETY: SQLite hands over `len` bytes.
            let bytes = unsafe { std::slice::from_raw_parts(bytes.cast::<u8>(), len as usize) }.to_vec();
            r.ops.push(Op::Write { file: open.path.clone(), offset: offset as u64, bytes });
        }
        open
    });
    // SAFETY: SQLite's own arguments.
    unsafe { open.methods().xWrite.expect("complete table")(file, bytes, len, offset) }
}

unsafe extern "C" fn truncate(file: *mut sqlite3_file, size: sqlite3_int64) -> c_int {
    let open = with(|s| {
        let (recording, open) = s.of(file);
        if let Some(r) = recording {
            r.ops.push(Op::Truncate { file: open.path.clone(), size: size as u64 });
        }
        open
    });
    // SAFETY: SQLite's own arguments.
    unsafe { open.methods().xTruncate.expect("complete table")(file, size) }
}

/// Nothing is really synced: what is recorded is played back from memory, and what is played back is thrown away.
unsafe extern "C" fn sync(file: *mut sqlite3_file, _: c_int) -> c_int {
    with(|s| {
        let (recording, open) = s.of(file);
        if let Some(r) = recording {
            r.ops.push(Op::Sync { file: open.path });
        }
    });
    SQLITE_OK
}

/// SQLite shows a VFS every pragma before it acts on it, with its argument in a buffer of its own.
unsafe extern "C" fn file_control(file: *mut sqlite3_file, op: c_int, arg: *mut c_void) -> c_int {
    let (weaken, open) = with(|s| {
        let (recording, open) = s.of(file);
        (recording.is_some_and(|r| r.weaken), open)
    });
    if op == SQLITE_FCNTL_PRAGMA && weaken {
        // SAFETY: three pointers: the answer, the pragma's name, and its argument or null; the argument is a copy
        // on SQLite's heap, at least as long as the word that stands there.
        unsafe {
            let [_, name, argument] = *arg.cast::<[*mut c_char; 3]>();
            if CStr::from_ptr(name).to_bytes().eq_ignore_ascii_case(b"synchronous") && !argument.is_null() {
                *argument = b'1' as c_char;
                *argument.add(1) = 0;
            }
        }
    }
    // SAFETY: SQLite's own arguments.
    unsafe { open.methods().xFileControl.expect("complete table")(file, op, arg) }
}

/// SAFETY: `name` must be a C string.
unsafe fn path(name: *const c_char) -> PathBuf {
    // SAFETY: as said above.
    PathBuf::from(std::ffi::OsStr::from_bytes(unsafe { CStr::from_ptr(name) }.to_bytes()))
}
