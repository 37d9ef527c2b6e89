/* In User-mode Linux a page fault costs some 90 microseconds (its kernel stops the process, asks it for the address, and makes it map the
 * page, each by ptrace), and starting a program is little else than page faults: 1,700 of them for lvs. Mapping many pages at once costs
 * a twentieth a page. So every program in the machine has this preloaded, which maps the segments of the program and of its libraries
 * before the program is relocated. It changes when pages are mapped, and nothing else. */
#define _GNU_SOURCE
#include <elf.h>
#include <link.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#define MADV_POPULATE_WRITE 23
#endif

/* The C library cannot be called yet. */
static long call(long number, uintptr_t first, uintptr_t second, uintptr_t third) {
    long result;
    __asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(first), "S"(second), "d"(third) : "rcx", "r11", "memory");
    return result;
}

/* Gives a segment its pages. The kernel of the machine tells the host of them when their protection changes, all at once. */
static void populate(uintptr_t begin, uintptr_t end, int protection) {
    const uintptr_t page = 4096;
    begin &= ~(page - 1);
    end = (end + page - 1) & ~(page - 1);
    if (end < begin + 2 * page) return;
    int writable = protection & PROT_WRITE;
    if (call(SYS_madvise, begin, end - begin, writable ? MADV_POPULATE_WRITE : MADV_POPULATE_READ) != 0) return;
    call(SYS_mprotect, begin, end - begin, protection ^ PROT_WRITE);
    call(SYS_mprotect, begin, end - begin, protection);
}

/* The segments of one object; `relocated` is false for the program itself, whose data the dynamic linker is about to fill in. */
static void populate_object(const struct link_map *map, int relocated) {
    const ElfW(Ehdr) *header = (const ElfW(Ehdr) *)map->l_addr;
    /* A program that is not position independent lies at 0 plus its own addresses. */
    if (!header || *(const uint32_t *)header->e_ident != 0x464c457f) return;
    const ElfW(Phdr) *segment = (const ElfW(Phdr) *)(map->l_addr + header->e_phoff);
    for (int i = 0; i < header->e_phnum; i++) {
        if (segment[i].p_type != PT_LOAD) continue;
        int writable = segment[i].p_flags & PF_W;
        /* Of a library, what is read-only after its relocation is so already, and in its pages. */
        if (writable && relocated) continue;
        uintptr_t begin = map->l_addr + segment[i].p_vaddr;
        populate(begin, begin + segment[i].p_memsz,
                 PROT_READ | (writable ? PROT_WRITE : 0) | (segment[i].p_flags & PF_X ? PROT_EXEC : 0));
    }
}

static int contains(const char *text, const char *part) {
    for (; *text; text++) {
        int same = 0;
        while (part[same] && text[same] == part[same]) same++;
        if (!part[same]) return 1;
    }
    return 0;
}

extern struct r_debug _r_debug;

/* The dynamic linker calls a resolver while it relocates this library, which is after the other libraries and before the program. */
static void (*resolve(void))(void) {
    for (const struct link_map *map = _r_debug.r_map; map; map = map->l_next)
        if (!map->l_name || !(contains(map->l_name, "ld-linux") || contains(map->l_name, "vdso")))
            populate_object(map, map != _r_debug.r_map);
    return 0;
}

__attribute__((ifunc("resolve"), visibility("hidden"))) void prefault(void);
void (*prefault_is_resolved)(void) = prefault;
