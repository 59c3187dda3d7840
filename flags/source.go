package flags

// Source provides flags to those who answer for them. Its methods are called for every evaluation, by many goroutines
// at once.
type Source interface {
	// Current returns the flags in force and the instant, in Unix seconds, at which they are evaluated. Nil: no flags
	// yet.
	Current() (f *Folded, at int64)
	// Changed returns a channel that is closed when Current's flags differ from the flags at the time of the call.
	Changed() <-chan struct{}
}
