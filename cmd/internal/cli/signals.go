package cli

import (
	"os"
	"os/signal"
	"syscall"
)

// OutliveReaders lets a program go on when the reader of its log goes away (SIGPIPE) or its terminal closes (SIGHUP),
// until stop is called. The signals are caught, not ignored, since hooks would inherit that.
func OutliveReaders() (stop func()) {
	caught := make(chan os.Signal, 1) // nobody reads it
	signal.Notify(caught, syscall.SIGPIPE, syscall.SIGHUP)
	return func() { signal.Stop(caught) }
}
