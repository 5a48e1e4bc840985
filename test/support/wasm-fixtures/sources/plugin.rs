//! A proxy-wasm plugin without an SDK, with Rust's standard library over WASI: it logs each request.
use std::collections::HashMap;
use std::sync::Mutex;

#[link(wasm_import_module = "env")]
extern "C" {
    fn proxy_log(level: i32, message: *const u8, size: usize) -> i32;
}

const LOG_INFO: i32 = 2;
const ACCEPTED: i32 = 1;
const ACTION_CONTINUE: i32 = 0;

/// Requests by context. A hash map brings randomness from WASI with it.
static REQUESTS: Mutex<Option<HashMap<i32, u32>>> = Mutex::new(None);

fn log(text: &str) {
    unsafe { proxy_log(LOG_INFO, text.as_ptr(), text.len()) };
}

#[no_mangle]
pub extern "C" fn proxy_abi_version_0_2_1() {}

#[no_mangle]
pub extern "C" fn proxy_on_memory_allocate(size: usize) -> *mut u8 {
    let mut bytes = Vec::<u8>::with_capacity(size);
    let start = bytes.as_mut_ptr();
    std::mem::forget(bytes);
    start
}

#[no_mangle]
pub extern "C" fn proxy_on_vm_start(_context: i32, _size: i32) -> i32 {
    ACCEPTED
}

#[no_mangle]
pub extern "C" fn proxy_on_configure(_context: i32, _size: i32) -> i32 {
    println!("configured at {:?}", std::time::SystemTime::now());
    log(&format!("{:?}", std::env::vars().collect::<Vec<_>>()));
    ACCEPTED
}

#[no_mangle]
pub extern "C" fn proxy_on_context_create(context: i32, _parent: i32) {
    let mut requests = REQUESTS.lock().unwrap();
    requests.get_or_insert_with(HashMap::new).insert(context, 0);
}

#[no_mangle]
pub extern "C" fn proxy_on_request_headers(context: i32, _count: i32, _is_last: i32) -> i32 {
    let mut requests = REQUESTS.lock().unwrap();
    *requests.get_or_insert_with(HashMap::new).entry(context).or_insert(0) += 1;
    log("request");
    ACTION_CONTINUE
}
