//! A SQLite VFS that records and fails: the system's own, but that writes, truncations, syncs and deletions of files
//! below the recorded folder are noted, in the order in which they happened, and that any call fails as planned.
//!
//! The only file that speaks to SQLite's C interface. It copies the system's table of functions and exchanges
//! a few of them, so that locks and shared memory stay SQLite's own.
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

use crate::fault::{Call, Extent, Faults, Plan, Tally};
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
    faults: Option<Faults>,
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
pub fn record(folder: &Path, strength: Strength, plan: Option<Plan>, work: impl FnOnce(&Record)) -> Vec<Op> {
    install();
    let _one = ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let recording = Recording {
        below: folder.to_owned(),
        weaken: strength == Strength::Normal,
        faults: plan.map(Faults::new),
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

    /// What came of the plan so far.
    pub fn tally(&self) -> Tally {
        self.faults(|f| f.tally.clone()).unwrap_or_default()
    }

    /// Whether calls fail from now on.
    pub fn set_faulty(&self, faulty: bool) {
        self.faults(|f| f.active = faulty);
    }

    fn faults<T>(&self, f: impl FnOnce(&mut Faults) -> T) -> Option<T> {
        with(|s| s.recording.as_mut().and_then(|r| r.faults.as_mut()).map(f))
    }
}

/// What becomes of one call.
enum Fate {
    Pass,
    Fail(c_int),
    /// Fails, and the caller is told that it went well.
    Conceal,
}

impl Recording {
    fn fate(&mut self, call: Call, path: &Path, offset: u64, len: u64) -> Fate {
        let Some(faults) = &mut self.faults else { return Fate::Pass };
        match faults.strike(call, path, Extent { offset, len }) {
            None => Fate::Pass,
            // What was not read or opened cannot be passed off as if it were.
            Some(_) if faults.plan.concealed && !matches!(call, Call::Open | Call::Read) => Fate::Conceal,
            Some(code) => Fate::Fail(code),
        }
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
    if !name.is_null() {
        // SAFETY: a name that is not null is a C string.
        let path = unsafe { path(name) };
        let fate = with(|s| {
            let recording = s.recording.as_mut().filter(|r| path.starts_with(&r.below));
            recording.map_or(Fate::Pass, |r| r.fate(Call::Open, &path, 0, 0))
        });
        if let Fate::Fail(code) = fate {
            // SAFETY: `file` has room for its file; without a table SQLite does not close it.
            unsafe { (*file).pMethods = std::ptr::null() };
            return code;
        }
    }
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
        table.xRead = Some(read);
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
    let fate = with(|s| {
        let Some(r) = s.recording.as_mut().filter(|r| file.starts_with(&r.below)) else { return Fate::Pass };
        let fate = r.fate(Call::Delete, &file, 0, 0);
        if matches!(fate, Fate::Pass) {
            r.existing.remove(&file);
            r.ops.push(Op::Delete { file, sync_dir: sync_dir != 0 });
        }
        fate
    });
    match fate {
        Fate::Pass => {}
        Fate::Fail(code) => return code,
        Fate::Conceal => return SQLITE_OK,
    }
    let system = system();
    // SAFETY: as for `open`.
    unsafe { (*system).xDelete.expect("the system deletes files")(system, name, sync_dir) }
}

unsafe extern "C" fn close(file: *mut sqlite3_file) -> c_int {
    let open = with(|s| s.open.remove(&(file as usize))).expect("every file was opened here");
    // SAFETY: the system closes what it opened.
    unsafe { open.methods().xClose.expect("complete table")(file) }
}

unsafe extern "C" fn read(
    file: *mut sqlite3_file,
    bytes: *mut c_void,
    len: c_int,
    offset: sqlite3_int64,
) -> c_int {
    let (fate, open) = with(|s| {
        let (recording, open) = s.of(file);
        let fate =
            recording.map_or(Fate::Pass, |r| r.fate(Call::Read, &open.path, offset as u64, len as u64));
        (fate, open)
    });
    if let Fate::Fail(code) = fate {
        return code;
    }
    // SAFETY: SQLite's own arguments.
    unsafe { open.methods().xRead.expect("complete table")(file, bytes, len, offset) }
}

/// One that fails has written its first half.
unsafe extern "C" fn write(
    file: *mut sqlite3_file,
    bytes: *const c_void,
    len: c_int,
    offset: sqlite3_int64,
) -> c_int {
    let (fate, len, open) = with(|s| {
        let (recording, open) = s.of(file);
        let Some(r) = recording else { return (Fate::Pass, len, open) };
        let fate = r.fate(Call::Write, &open.path, offset as u64, len as u64);
        let len = if matches!(fate, Fate::Pass) { len } else { len / 2 };
        // SAFETY: SQLite hands over at least `len` bytes.
        let bytes = unsafe { std::slice::from_raw_parts(bytes.cast::<u8>(), len as usize) }.to_vec();
        r.ops.push(Op::Write { file: open.path.clone(), offset: offset as u64, bytes });
        (fate, len, open)
    });
    // SAFETY: SQLite's own arguments, or the first half of what it handed over.
    let code = unsafe { open.methods().xWrite.expect("complete table")(file, bytes, len, offset) };
    if let Fate::Fail(code) = fate { code } else { code }
}

unsafe extern "C" fn truncate(file: *mut sqlite3_file, size: sqlite3_int64) -> c_int {
    let (fate, open) = with(|s| {
        let (recording, open) = s.of(file);
        let Some(r) = recording else { return (Fate::Pass, open) };
        let fate = r.fate(Call::Truncate, &open.path, 0, size as u64);
        if matches!(fate, Fate::Pass) {
            r.ops.push(Op::Truncate { file: open.path.clone(), size: size as u64 });
        }
        (fate, open)
    });
    match fate {
        // SAFETY: SQLite's own arguments.
        Fate::Pass => unsafe { open.methods().xTruncate.expect("complete table")(file, size) },
        Fate::Fail(code) => code,
        Fate::Conceal => SQLITE_OK,
    }
}

/// Nothing is really synced: what is recorded is played back from memory, and what is played back is thrown away.
unsafe extern "C" fn sync(file: *mut sqlite3_file, _: c_int) -> c_int {
    with(|s| {
        let (recording, open) = s.of(file);
        let Some(r) = recording else { return SQLITE_OK };
        let fate = r.fate(Call::Sync, &open.path, 0, 0);
        r.ops.push(match fate {
            Fate::Pass => Op::Sync { file: open.path },
            Fate::Fail(_) | Fate::Conceal => Op::SyncFailed { file: open.path },
        });
        if let Fate::Fail(code) = fate { code } else { SQLITE_OK }
    })
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
