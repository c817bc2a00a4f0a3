//! The program's memory: the system's, overwritten when it is given back.
//!
//! Values with keys wipe themselves when they are dropped. But a value that is moved is copied, and a
//! list that grows is: the old place is given back as it is, with what was a key in it. No type can
//! help that, so whatever is given back is wiped. Packets take no memory and give none back.

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;

/// Blocks of this size or more the allocator maps on their own, and returns to the kernel when they are
/// freed (the largest `M_MMAP_THRESHOLD` of glibc): nothing of them stays.
const KERNELS: usize = 32 << 20;

struct Wiped;

#[global_allocator]
static MEMORY: Wiped = Wiped;

// SAFETY: all memory is the system's. A piece is written to only before it is given back, within its
// length, when nobody else has it any more.
unsafe impl GlobalAlloc for Wiped {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        if layout.size() < KERNELS {
            // SAFETY: the caller gives back so many bytes.
            unsafe { at.write_bytes(0, layout.size()) };
            // Else these writes are left out, as nobody is to read them.
            black_box(at);
        }
        // SAFETY: the caller's.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if layout.size() >= KERNELS {
            // The kernel moves its pages, without a copy.
            // SAFETY: the caller's.
            return unsafe { System.realloc(at, layout, size) };
        }
        // SAFETY: the alignment is that of a layout, and the caller says that the size fits it.
        let new = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        // SAFETY: the size isn't zero, which is the caller's to see to.
        let to = unsafe { System.alloc(new) };
        if !to.is_null() {
            // SAFETY: both pieces have as many bytes, and they are two.
            unsafe { to.copy_from_nonoverlapping(at, layout.size().min(size)) };
            // SAFETY: the caller gives it back by this call.
            unsafe { self.dealloc(at, layout) };
        }
        to
    }
}
