package simulate

import "time"

// Result is what came of a simulation. Lengths of time are in seconds.
type Result struct {
	Commit   string    `json:"commit"` // that it began with
	From     time.Time `json:"from"`
	Until    time.Time `json:"until"`
	Seed     int64     `json:"seed"`
	Summary  Summary   `json:"summary"`
	Channels []Channel `json:"channels"` // upstreams first
	Waits    []Wait    `json:"waits"`    // by channel, the longest first
	Timeline []Event   `json:"timeline"`
	Arrivals []Arrival `json:"arrivals"`

	series   map[string][]releaseCounts // by channel, for the chart
	allWaits []Wait
}

// Summary counts.
type Summary struct {
	Cells       int `json:"cells"`
	Releases    int `json:"releases"` // cut on the way
	Promotions  int `json:"promotions"`
	Rollbacks   int `json:"rollbacks"`
	Halts       int `json:"halts"`
	Quarantined int `json:"quarantined"`
	Granted     int `json:"granted"` // grants to cells
	Arrived     int `json:"arrived"` // of which cells came to run what was granted
	Failed      int `json:"failed"`  // and those that failed
	Plans       int `json:"plans"`   // made by the engine
}

// Channel is what a channel went through.
type Channel struct {
	Name     string    `json:"name"`
	Cells    int       `json:"cells"`
	Head     string    `json:"head"`   // at the end; empty: none yet
	Behind   int       `json:"behind"` // cells that do not run it at the end
	Rollouts []Rollout `json:"rollouts"`
}

// Rollout is one head of a channel on its way to the cells.
type Rollout struct {
	Release  string    `json:"release"`
	Sequence int64     `json:"sequence"`
	Kind     string    `json:"kind"` // promote, rollback, or standing: it was the head before
	Moved    time.Time `json:"moved"`
	Waves    []Wave    `json:"waves"`
	Granted  int       `json:"granted"`
	Arrived  int       `json:"arrived"`
	Failed   int       `json:"failed"`
	First    time.Time `json:"first,omitzero"` // cell that came to run it
	Half     time.Time `json:"half,omitzero"`  // of the channel's cells
	Last     time.Time `json:"last,omitzero"`  // so far
	Finished time.Time `json:"finished,omitzero"`
}

// Wave is what was granted under one wave.
type Wave struct {
	Wave  int       `json:"wave"`
	First time.Time `json:"first"`
	Last  time.Time `json:"last"`
	Cells int       `json:"cells"`
}

// Wait is the longest that a channel waited for a gate, and how long in all.
type Wait struct {
	Channel string    `json:"channel"`
	Gate    string    `json:"gate"`
	Release string    `json:"release"`
	Reason  string    `json:"reason"`
	From    time.Time `json:"from"`
	Until   time.Time `json:"until"`
	Longest int64     `json:"longest"`
	Total   int64     `json:"total"`
	Times   int       `json:"times"`
	Cells   int       `json:"cells,omitempty"` // that waited at once, where it holds single cells
	Open    bool      `json:"open,omitempty"`  // it still waits at the end
}

// Event is one line of the timeline. Kind is cut, accepted, promote, rollback, quarantine, halt, grant, finished, failed,
// blocked, or what a person did: request, approve, hold, lift, quarantine.
type Event struct {
	At      time.Time `json:"at"`
	Kind    string    `json:"kind"`
	Channel string    `json:"channel,omitempty"`
	Release string    `json:"release,omitempty"`
	Gate    string    `json:"gate,omitempty"`
	Wave    int       `json:"wave,omitempty"`
	Cells   int       `json:"cells,omitempty"`
	Names   []string  `json:"names,omitempty"` // of the first few cells
	Text    string    `json:"text,omitempty"`
	For     int64     `json:"for,omitempty"` // blocked: how long
}

// Arrival is one cell and one release: when it was granted, and when the cell ran it.
type Arrival struct {
	Cell     string    `json:"cell"`
	Channel  string    `json:"channel"`
	Release  string    `json:"release"`
	Sequence int64     `json:"sequence"`
	Wave     int       `json:"wave"`
	Granted  time.Time `json:"granted"`
	At       time.Time `json:"at,omitzero"` // zero: not yet, or never
	Failed   bool      `json:"failed,omitempty"`
}

// releaseCounts is how many cells of a channel run which release from an instant on.
type releaseCounts struct {
	at     time.Time
	counts map[string]int
}
