//go:build !linux

package render

import "runtime/debug"

// limitProcess asks the collector to stay within memory bytes. Elsewhere than on Linux only the parent's time and
// output limits are hard.
func limitProcess(memory int64, _ uint64) error {
	debug.SetMemoryLimit(memory)
	return nil
}
