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
