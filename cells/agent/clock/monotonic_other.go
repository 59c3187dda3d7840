//go:build !linux

package clock

import "time"

func monotonic() (time.Duration, bool) { return 0, false }

func machineStart() string { return "" }
