package engine

import "github.com/sluice-cd/sluice/internal/wake"

// signals wake goroutines. Each field says who waits, and who sends.
type signals struct {
	// pushed: the branch may have moved. Run waits, and fetches. Sent by Pushed, by other processes' updates, and for a
	// cell that is not known yet and has a token.
	pushed wake.Signal
	// forwardPush: the leader is to be notified of a push. forwardPushes waits. Sent by Pushed where another process
	// leads.
	forwardPush wake.Signal
	// changed: the observations say something new. Run waits, and ticks at once. Sent by reports, probes,
	// registrations, updates, and a new lease.
	changed wake.Signal
	// hostAnswered: a call to the git host that went on beside the loop has its answer. Run waits, and ticks.
	hostAnswered wake.Signal
	// heartbeat: a report said nothing new. Run waits, and ticks within heartbeatDelay.
	heartbeat wake.Signal
	// flagsReported: the observations say something new of flags. The announcer waits.
	flagsReported wake.Signal
	// flagsWritten: another process wrote what concerns flags. The announcer waits.
	flagsWritten wake.Signal
}

func newSignals() *signals {
	return &signals{wake.New(), wake.New(), wake.New(), wake.New(), wake.New(), wake.New(), wake.New()}
}
