package main

import (
	"bufio"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime/debug"
	"strings"
	"syscall"
	"time"
)

// tidyAfter is when a speaker that got ready returns what its start needed.
const tidyAfter = 5 * time.Second

// tidyLater returns, a while after the start, the memory that only the start
// needed: reading everything at once takes more than holding it, and the
// program's own text is mostly the first steps of its libraries.
func tidyLater(log *slog.Logger) {
	time.AfterFunc(tidyAfter, func() {
		debug.FreeOSMemory()
		if err := dropProgramPages(); err != nil {
			log.Debug("the pages of the program stay in memory", "err", err)
		}
	})
}

// dropProgramPages has the kernel take back the pages of the program that cannot
// have changed, its code and constants. Those that are needed again come back
// from the page cache, a microsecond each.
func dropProgramPages() error {
	program, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return fmt.Errorf("find the program: %w", err)
	}
	memory, err := os.Open("/proc/self/smaps")
	if err != nil {
		return fmt.Errorf("read the memory's map: %w", err)
	}
	defer memory.Close()
	for _, m := range constantParts(memory, program) {
		// MADV_DONTNEED of a private mapping drops the pages; what is read next
		// comes from the file (madvise(2)). Nobody has written to these.
		if _, _, no := syscall.Syscall(syscall.SYS_MADVISE, m.from, m.to-m.from, syscall.MADV_DONTNEED); no != 0 {
			return fmt.Errorf("madvise %x-%x: %w", m.from, m.to, no)
		}
	}
	return nil
}

// mapping is a range of addresses.
type mapping struct{ from, to uintptr }

// constantParts finds the mappings of a file that nothing can write to, and that
// nothing has written to before it was so, as a dynamic linker does; in the
// format of /proc/pid/smaps (proc_pid_smaps(5)).
func constantParts(memory io.Reader, file string) (parts []mapping) {
	var at mapping
	candidate := false
	for lines := bufio.NewScanner(memory); lines.Scan(); {
		line := lines.Text()
		var next mapping
		var may string
		if n, _ := fmt.Sscanf(line, "%x-%x %s", &next.from, &next.to, &may); n == 3 {
			at = next
			candidate = strings.HasSuffix(line, " "+file) && strings.HasPrefix(may, "r-")
			continue
		}
		if candidate && strings.Join(strings.Fields(line), " ") == "Anonymous: 0 kB" {
			parts = append(parts, at)
		}
	}
	return parts
}
