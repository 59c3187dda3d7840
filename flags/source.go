package flags

// Source is where those who answer for flags have them from. Its methods are called for every question, by many at once.
type Source interface {
	// Current gives the flags in force and the instant, in Unix seconds, at which they are asked. Nil: there are none yet.
	Current() (f *Folded, at int64)
	// Changed gives a channel that is closed when Current's flags are others than they were when it was called.
	Changed() <-chan struct{}
}
