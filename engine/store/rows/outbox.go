package rows

import (
	"time"

	"github.com/sluice-cd/sluice/engine/plan"
)

// Names of single values.
const (
	FlagsFact  = "flags"         // engine.FlagsMark
	MemoryFact = "announcements" // announce.Memory
)

const (
	// KeepLanded is how long a kill is kept after it landed: until then a replica may not have that commit.
	KeepLanded = 7 * 24 * time.Hour
	// KeepPosted is how long it is kept that an event was posted. It may have happened OutboxMemory before, and after that it is
	// not posted any more.
	KeepPosted = 2 * plan.OutboxMemory
	// KeepMessages is how many messages are kept at the most: the oldest go, sent or not.
	KeepMessages = 20_000
)

// Attempted is m after an attempt that failed; the zero until gives it up.
func Attempted(m plan.Message, until time.Time, why string) plan.Message {
	m.Attempts++
	m.Next, m.Why = until, why
	return m
}

// Arrived is m after it was sent.
func Arrived(m plan.Message, at time.Time) plan.Message {
	m.Next, m.Sent, m.Why = time.Time{}, at, ""
	return m
}

// ByEvent gives the messages by event, and the events in order. Messages for nobody are not among them.
func ByEvent(all []plan.Message) (events []string, messages map[string][]plan.Message) {
	messages = map[string][]plan.Message{}
	for _, m := range all {
		id := m.Event.ID
		if _, known := messages[id]; !known {
			events = append(events, id)
			messages[id] = nil
		}
		if m.Webhook != "" {
			messages[id] = append(messages[id], m)
		}
	}
	return events, messages
}
