//go:build !linux

package agent

import "time"

func monotonic() (time.Duration, bool) { return 0, false }

func machineStart() string { return "" }
