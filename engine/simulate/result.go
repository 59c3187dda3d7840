package simulate

import "time"

// Result is the outcome of a simulation. Durations are in seconds.
type Result struct {
	Commit   string    `json:"commit"` // the commit at the start
	From     time.Time `json:"from"`
	Until    time.Time `json:"until"`
	Seed     int64     `json:"seed"`
	Summary  Summary   `json:"summary"`
	Channels []Channel `json:"channels"` // upstreams first
	Waits    []Wait    `json:"waits"`    // by channel, the longest first
	Timeline []Event   `json:"timeline"`
	Arrivals []Arrival `json:"arrivals"`

	series   map[string][]releaseCounts // release counts by channel, for the chart
	allWaits []Wait
}

// Summary counts what happened.
type Summary struct {
	Cells       int `json:"cells"`
	Releases    int `json:"releases"` // releases cut during the simulation
	Promotions  int `json:"promotions"`
	Rollbacks   int `json:"rollbacks"`
	Halts       int `json:"halts"`
	Quarantined int `json:"quarantined"`
	Granted     int `json:"granted"` // grants to cells
	Arrived     int `json:"arrived"` // grants whose cells came to run the release
	Failed      int `json:"failed"`  // grants whose cells failed the release
	Plans       int `json:"plans"`   // plans made
}

// Channel is the outcome in one channel.
type Channel struct {
	Name     string    `json:"name"`
	Cells    int       `json:"cells"`
	Head     string    `json:"head"`   // at the end of the simulation; empty: none
	Behind   int       `json:"behind"` // cells that do not run the head at the end
	Rollouts []Rollout `json:"rollouts"`
}

// Rollout is one head of a channel on its way to the cells.
type Rollout struct {
	Release  string    `json:"release"`
	Sequence int64     `json:"sequence"`
	Kind     string    `json:"kind"` // promote, rollback, or standing: the head at the start
	Moved    time.Time `json:"moved"`
	Waves    []Wave    `json:"waves"`
	Granted  int       `json:"granted"`
	Arrived  int       `json:"arrived"`
	Failed   int       `json:"failed"`
	First    time.Time `json:"first,omitzero"` // when the first cell ran the release
	Half     time.Time `json:"half,omitzero"`  // when half of the channel's cells ran it
	Last     time.Time `json:"last,omitzero"`  // when the last cell so far ran it
	Finished time.Time `json:"finished,omitzero"`
}

// Wave counts the grants of one wave.
type Wave struct {
	Wave  int       `json:"wave"`
	First time.Time `json:"first"`
	Last  time.Time `json:"last"`
	Cells int       `json:"cells"`
}

// Wait is a channel's longest wait for a gate, with the sum of all its waits for that gate.
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
	// The greatest number of cells that waited at once, if the verdict is about single cells
	Cells int  `json:"cells,omitempty"`
	Open  bool `json:"open,omitempty"` // still open at the end
}

// Event is one line of the timeline. Kind is cut, joined, accepted, promote, rollback, quarantine, halt, grant,
// finished, failed, blocked, notified, or what a person did: request, approve, hold, lift, quarantine.
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
	For     int64     `json:"for,omitempty"` // blocked: for how long
}

// Arrival is one cell and one release: when the release was granted, and when the cell ran it.
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

// releaseCounts says how many cells of a channel run each release, from an instant on.
type releaseCounts struct {
	at     time.Time
	counts map[string]int
}
