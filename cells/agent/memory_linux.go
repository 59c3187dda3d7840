package agent

import (
	"bufio"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"syscall"
)

// mapping is the first line of a stretch of memory in /proc/self/smaps: from, to, what may be done there, the file.
var mapping = regexp.MustCompile(`^([0-9a-f]+)-([0-9a-f]+) (\S+) \S+ \S+ \S+ *(.*)$`)

// forgetCode lets the system have back what was read of this program's file, most of which only its start needed. What is
// needed again is read again. Only stretches that can't be written to and that nobody ever changed are let go: those of
// a program that was linked while it started are not all so.
func forgetCode() error {
	program, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	f, err := os.Open("/proc/self/smaps")
	if err != nil {
		return fmt.Errorf("read what is in memory: %w", err)
	}
	defer func() { _ = f.Close() }()
	var from, to uint64
	ours := false
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		line := lines.Text()
		if m := mapping.FindStringSubmatch(line); m != nil {
			from, _ = strconv.ParseUint(m[1], 16, 64) // what does not parse is 0, and refused below
			to, _ = strconv.ParseUint(m[2], 16, 64)
			ours = m[4] == program && (m[3] == "r-xp" || m[3] == "r--p") && from < to
			continue
		}
		changed, is := strings.CutPrefix(line, "Anonymous:")
		if !ours || !is || strings.TrimSpace(changed) != "0 kB" {
			continue
		}
		if _, _, errno := syscall.Syscall(syscall.SYS_MADVISE, uintptr(from), uintptr(to-from), syscall.MADV_DONTNEED); errno != 0 {
			return fmt.Errorf("let code go: %w", errno)
		}
	}
	return lines.Err()
}
