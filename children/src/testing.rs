//! What the tests of several modules need.

#![allow(unsafe_code, clippy::expect_used)]

use std::ffi::{c_int, c_long};

/// Has the kernel answer these calls with an error, to this thread and whatever it starts.
///
/// # Panics
/// When the kernel takes no filter.
pub fn refuse_calls(calls: &[c_long], errno: c_int) {
    let op = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    let number = |number| u32::try_from(number).expect("not negative");
    let errno = u32::try_from(errno).expect("not negative");
    // The number of the call; each that is meant leads to the error behind it.
    let mut filter = vec![op(0x20, 0, 0, 0)];
    for call in calls {
        filter.push(op(0x15, 0, 1, number(*call)));
        filter.push(op(0x06, 0, 0, libc::SECCOMP_RET_ERRNO | errno));
    }
    filter.push(op(0x06, 0, 0, libc::SECCOMP_RET_ALLOW));
    install(filter);
}

/// Has the kernel answer this call with an error where its first argument has the flag; otherwise as [`refuse_calls`].
///
/// # Panics
/// When the kernel takes no filter.
pub fn refuse_flag(call: c_long, flag: c_int, errno: c_int) {
    let op = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    let number = |number| u32::try_from(number).expect("not negative");
    install(vec![
        op(0x20, 0, 0, 0),
        op(0x15, 0, 3, u32::try_from(call).expect("not negative")),
        // The lower half of the first argument.
        op(0x20, 0, 0, 16),
        op(0x45, 0, 1, number(flag)),
        op(0x06, 0, 0, libc::SECCOMP_RET_ERRNO | number(errno)),
        op(0x06, 0, 0, libc::SECCOMP_RET_ALLOW),
    ]);
}

fn install(mut filter: Vec<libc::sock_filter>) {
    let length = filter.len().try_into().expect("a short filter");
    let filter = libc::sock_fprog { len: length, filter: filter.as_mut_ptr() };
    // SAFETY: the filter is alive and its length right.
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        assert_eq!(libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const filter), 0);
    }
}
