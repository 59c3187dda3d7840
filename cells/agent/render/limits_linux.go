package render

import (
	"bytes"
	"fmt"
	"math"
	"os"
	"runtime/debug"
	"strconv"
	"syscall"
)

// limitProcess bounds this process: memory bytes of address space beyond its present size, CPU in seconds, and no files
// at all.
func limitProcess(memory int64, cpu uint64) error {
	statm, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return fmt.Errorf("limit the render: %w", err)
	}
	first, _, _ := bytes.Cut(statm, []byte(" "))
	pages, err := strconv.ParseInt(string(first), 10, 64)
	if err != nil {
		return fmt.Errorf("limit the render: %w", err)
	}
	// collect garbage harder before memory runs out
	debug.SetMemoryLimit(memory / 4 * 3)
	pageSize := int64(os.Getpagesize())
	space := uint64(min(pages, math.MaxInt64/(2*pageSize))*pageSize + memory) //nolint:gosec // both are positive
	for resource, limit := range map[int]uint64{
		syscall.RLIMIT_AS:    space,
		syscall.RLIMIT_CPU:   cpu,
		syscall.RLIMIT_FSIZE: 0,
		syscall.RLIMIT_CORE:  0,
	} {
		if err := syscall.Setrlimit(resource, &syscall.Rlimit{Cur: limit, Max: limit}); err != nil {
			return fmt.Errorf("limit the render: %w", err)
		}
	}
	return nil
}
