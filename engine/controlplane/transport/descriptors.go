package transport

import (
	"math"
	"syscall"
)

// descriptorLimit returns how many descriptors this process may have now.
func descriptorLimit() int {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 256 // the least that systems allow
	}
	return int(min(uint64(limit.Cur), math.MaxInt32))
}
