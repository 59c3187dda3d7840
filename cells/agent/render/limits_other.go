//go:build !linux

package render

import "runtime/debug"

// limitProcess asks the garbage collector to stay within memory bytes. Outside Linux, only the parent's limits of time
// and output are hard.
func limitProcess(memory int64, _ uint64) error {
	debug.SetMemoryLimit(memory)
	return nil
}
