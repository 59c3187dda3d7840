package clock

import (
	"errors"
	"io/fs"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// readMonotonic returns the time since the machine's start, suspension included, by a clock that can be neither set nor
// slewed. ok reports whether that clock could be read.
func readMonotonic() (count time.Duration, ok bool) {
	var boottime, awake, raw unix.Timespec // in this order, an interruption in between makes the result late, not early
	for _, clock := range []struct {
		id int32
		at *unix.Timespec
	}{{unix.CLOCK_BOOTTIME, &boottime}, {unix.CLOCK_MONOTONIC, &awake}, {unix.CLOCK_MONOTONIC_RAW, &raw}} {
		if unix.ClockGettime(clock.id, clock.at) != nil {
			return 0, false
		}
	}
	// The raw clock stands still during suspension, which lasted for the difference of the other two.
	return time.Duration(raw.Nano() + max(0, boottime.Nano()-awake.Nano())), true
}

// machineStart identifies the start that readMonotonic counts from: the machine's boot, and the time namespace that may
// shift the clock; empty: not known.
func machineStart() string {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	space, err := os.Readlink("/proc/self/ns/time")
	if err != nil && !errors.Is(err, fs.ErrNotExist) { // older kernels have no time namespaces
		return ""
	}
	return strings.TrimSpace(string(boot)) + " " + space
}
