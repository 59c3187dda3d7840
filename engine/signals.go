package engine

// signal wakes one goroutine: sent often before it is received, it wakes once.
type signal chan struct{}

func newSignal() signal { return make(signal, 1) }

func (s signal) send() {
	select {
	case s <- struct{}{}:
	default:
	}
}

// signals say who wakes whom.
type signals struct {
	pushed   signal // the branch may have moved: wakes Run, which looks at it. Sent by Pushed, by news of others, for a cell that is not known yet
	pass     signal // the leader is to be told of a push: wakes tellPushes. Sent by Pushed where another process leads
	moved    signal // what is observed says something new: wakes Run at once. Sent by reports, probes, registrations, news, a lease
	beat     signal // a report said the same as before: wakes Run within beatDelay
	flagged  signal // what is observed says something else of flags: wakes the announcer
	flagNews signal // another process wrote what concerns flags: wakes the announcer
}

func newSignals() *signals {
	return &signals{newSignal(), newSignal(), newSignal(), newSignal(), newSignal(), newSignal()}
}
