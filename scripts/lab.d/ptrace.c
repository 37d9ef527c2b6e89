/* User-mode Linux 6.1 keeps its processes' FPU state in a buffer that is too short for a processor with AMX: it reads the
 * beginning of the state, and when it writes that back, the host's kernel refuses anything but the whole state
 * (arch/x86/kernel/fpu/regset.c, xstateregs_set), and the machine dies at its first process. scripts/lab preloads this
 * function in place of the C library's: what is behind the buffer is written back as it is at that moment. */
#define _GNU_SOURCE
#include <elf.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

#ifndef NT_X86_XSTATE
#define NT_X86_XSTATE 0x202
#endif

long ptrace(enum __ptrace_request request, ...) {
    va_list arguments;
    va_start(arguments, request);
    pid_t pid = va_arg(arguments, pid_t);
    void *addr = va_arg(arguments, void *);
    void *data = va_arg(arguments, void *);
    va_end(arguments);

    /* The C library's function gives the word that was read; the system call writes it to where `data` points. */
    int peeks = request == PTRACE_PEEKTEXT || request == PTRACE_PEEKDATA || request == PTRACE_PEEKUSER;
    long word = 0;
    if (peeks) data = &word;

    /* AMX's tiles are 8 KiB, and all the rest less than 4. */
    static __thread char whole[32 << 10];
    struct iovec state = {whole, sizeof whole};
    if (request == PTRACE_SETREGSET && addr == (void *)NT_X86_XSTATE) {
        struct iovec *part = data;
        if (syscall(SYS_ptrace, PTRACE_GETREGSET, pid, addr, &state) == 0 && part->iov_len < state.iov_len) {
            memcpy(whole, part->iov_base, part->iov_len);
            data = &state;
        }
    }
    long result = syscall(SYS_ptrace, request, pid, addr, data);
    return peeks && result == 0 ? word : result;
}
