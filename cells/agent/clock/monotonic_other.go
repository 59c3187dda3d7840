//go:build !linux

package clock

import "time"

func readMonotonic() (time.Duration, bool) { return 0, false }

func machineStart() string { return "" }
