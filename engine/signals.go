package engine

import "github.com/sluice-cd/sluice/internal/wake"

// signals say who wakes whom.
type signals struct {
	pushed        wake.Signal // the branch may have moved: wakes Run, which looks at it. Sent by Pushed, by news of others, for a cell that is not known yet
	forwardPush   wake.Signal // the leader is to be told of a push: wakes tellPushes. Sent by Pushed where another process leads
	changed       wake.Signal // what is observed says something new: wakes Run at once. Sent by reports, probes, registrations, news, a lease
	heartbeat     wake.Signal // a report said the same as before: wakes Run within beatDelay
	flagsReported wake.Signal // what is observed says something else of flags: wakes the announcer
	flagsWritten  wake.Signal // another process wrote what concerns flags: wakes the announcer
}

func newSignals() *signals {
	return &signals{wake.New(), wake.New(), wake.New(), wake.New(), wake.New(), wake.New()}
}
