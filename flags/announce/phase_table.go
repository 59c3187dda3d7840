package announce

import "github.com/sluice-cd/sluice/flags/repository"

// phase is how far an announcement is in a channel, by what its file and its record say, and by the time.
type phase int

const (
	absent    phase = iota // it is not for the channel, or its file is gone
	cancelled              // before it was published
	retracted              // cancelled after it was published
	archived
	timeless  // it says no time
	atOnce    // it is to be published now
	ahead     // its time is to come, and it is not armed as it is
	armed     // it is on record as armed, and cells flip by themselves
	counting  // it is on record as armed, and enough cells must be ready when its time comes (skip, block)
	due       // it is on record as armed, and its time has come
	late      // its time came, and it was not armed
	joining   // the channel is new to it, and others have it
	missed    // it is on record as missed
	published // it is on record as published
	edited    // the same, and an edit of it is approved
	entryAhead
	entryDue
)

// obstacle is what is in the way.
type obstacle int

const (
	free       obstacle = iota
	unapproved          // approvals are missing
	held                // all its cells are
	unreadable          // what was approved is not there to be read: it is off
)

// transition is where an announcement gets from a phase, and what follows for its record; nil: nothing. decide may change the state.
type transition struct {
	state  State
	record func(*channelState, finding)
}

// transitions is all that may become of an announcement, by what is in its way. A column that is empty can't come about.
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

// finding is what steps are taken by.
type finding struct {
	phase       phase
	obstacle    obstacle
	explanation string            // in words, for people
	reason      string            // of a record that it is disarmed
	basis       repository.Record // what a record that turns on rests on: hash, commit and time
}

// decideState decides what is in force of an announcement in a channel, and which record there should be of it.
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
