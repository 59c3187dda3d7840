package announce

import "github.com/sluice-cd/sluice/flags/repository"

// phase is how far an announcement is in a channel, by its file, its record and the time.
type phase int

const (
	absent    phase = iota // not for the channel, or the file is gone
	cancelled              // before publication
	retracted              // cancelled after publication
	archived
	timeless  // without a time
	atOnce    // to be published now
	ahead     // the time is to come, and the current text is not armed
	armed     // on record as armed: cells flip by themselves
	counting  // on record as armed: enough cells must be ready at the time (skip, block)
	due       // on record as armed, and the time has come
	late      // the time came, and the announcement was not armed
	joining   // published elsewhere, and the channel is new
	missed    // on record as missed
	published // on record as published
	edited    // published, and an edit is approved
	entryAhead
	entryDue
)

// obstacle says what keeps an announcement back.
type obstacle int

const (
	free       obstacle = iota
	unapproved          // approvals are missing
	held                // all cells are held
	unreadable          // the approved commit can't be read: the features are off
)

// transition is the state that follows from a phase, and how its record is written; nil: no write. publishIfReady may
// change the state.
type transition struct {
	state  State
	record func(*channelState, finding)
}

// transitions returns the transition of a phase for each obstacle. An empty entry can't occur.
func transitions(in phase) [4]transition {
	arm, decide, again := (*channelState).arm, (*channelState).publishIfReady, (*channelState).publishEdit
	miss, disarm, remember := (*channelState).recordMiss, (*channelState).disarm, (*channelState).recordHold
	return [...][4]transition{
		//           free                  unapproved            held               unreadable
		absent:     {{"", disarm}},
		cancelled:  {{Cancelled, disarm}},
		retracted:  {{Retracted, nil}},
		archived:   {{Archived, disarm}, {}, {Held, nil}},
		timeless:   {{Approved, disarm}, {Draft, disarm}, {Held, disarm}},
		atOnce:     {{Scheduled, decide}, {Draft, disarm}, {Held, disarm}},
		ahead:      {{Scheduled, arm}, {Draft, disarm}, {Held, remember}},
		armed:      {{Armed, arm}, {Draft, disarm}, {Held, disarm}, {Scheduled, nil}},
		counting:   {{Scheduled, arm}, {Draft, disarm}, {Held, disarm}, {Scheduled, nil}},
		due:        {{Publishing, decide}, {Missed, miss}, {Missed, miss}, {Scheduled, nil}},
		late:       {{Missed, miss}, {Missed, miss}, {Missed, miss}},
		joining:    {{Scheduled, decide}, {Draft, nil}},
		missed:     {{Missed, nil}},
		published:  {{Publishing, nil}},
		edited:     {{Publishing, again}},
		entryAhead: {{Armed, nil}, {}, {Held, nil}},
		entryDue:   {{Publishing, nil}, {}, {Held, nil}},
	}[in]
}

// finding holds what a transition depends on.
type finding struct {
	phase       phase
	obstacle    obstacle
	explanation string            // for people
	reason      string            // for a record of disarming
	basis       repository.Record // hash, commit and time of a record that turns features on
}

// decideState decides which state an announcement has in a channel, and which record there should be.
func (s *channelState) decideState() {
	var f finding
	switch {
	case s.channel.entry:
		f = s.entryPhase()
	case s.record != nil && s.record.Outcome == repository.Published:
		f = s.publishedPhase()
	default:
		f = s.pendingPhase()
	}
	step := transitions(f.phase)[f.obstacle]
	s.state, s.reason = step.state, f.explanation
	s.sent = s.tree != nil && (s.state == Armed || s.state == Publishing || s.state == Archived)
	if step.record != nil {
		step.record(s, f)
	}
}
