//! Guests of a few bytes, in the real mode in which the firmware starts a boot sector.

/// Does nothing for ever, and doesn't hear that it should end.
pub(super) const DEAF: [u8; 3] = [
    0xf4, // hlt
    0xeb, 0xfd, // jmp to the hlt
];

/// Switches itself off at once: ACPI's sleep state 5, at the port that the firmware gives it.
pub(super) const BRIEF: [u8; 7] = [
    0xba, 0x04, 0x06, // mov dx, 0x604: PM1a_CNT
    0xb8, 0x00, 0x20, // mov ax, 0x2000: SLP_EN, type 0
    0xef, // out dx, ax
];

/// Runs until somebody presses the power button, then switches itself off.
pub(super) const OBEDIENT: [u8; 22] = [
    0xfa, // cli: the button's interrupt is asked for by hand
    0xba, 0x02, 0x06, // mov dx, 0x602: PM1a_EN
    0xb8, 0x00, 0x01, // mov ax, 0x100: PWRBTN_EN
    0xef, // out dx, ax
    0xb2, 0x00, // mov dl, 0: PM1a_STS
    0xed, // in ax, dx
    0xf6, 0xc4, 0x01, // test ah, 1: PWRBTN_STS
    0x74, 0xfa, // jz to the in
    0xb2, 0x04, // mov dl, 4: PM1a_CNT
    0xb8, 0x00, 0x20, // mov ax, 0x2000
    0xef, // out dx, ax
];

/// Writes into its disk, from its beginning to its end and over again, 32 KiB at a time.
pub(super) const WRITER: [u8; 38] = [
    0x31, 0xc0, // xor ax, ax
    0x8e, 0xd8, // mov ds, ax
    0xb2, 0x80, // mov dl, 0x80: the first disk
    0xbe, 0x16, 0x7c, // mov si, 0x7c16: the packet
    0xb8, 0x00, 0x43, // mov ax, 0x4300: "extended write"
    0xcd, 0x13, // int 0x13
    0x83, 0x44, 0x08, 0x40, // add word [si + 8], 64
    0xeb, 0xf5, // jmp to the mov ax
    0x90, 0x90, // nothing
    0x10, 0x00, // the packet: its length,
    0x40, 0x00, // sectors,
    0x00, 0x7c, 0x00, 0x00, // where they come from,
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, // the first of them
];
