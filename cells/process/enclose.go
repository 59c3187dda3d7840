package process

// Enclosure says how RunEnclosed runs a command.
type Enclosure struct {
	Terminal bool  `json:"terminal,omitempty"` // standard input is a terminal, which becomes the command's own
	User     *User `json:"user,omitempty"`     // whom the command runs as; nil: this process's user
}

// User is a user of the machine by its numbers.
type User struct {
	ID     uint32   `json:"id"`
	Group  uint32   `json:"group"`
	Groups []uint32 `json:"groups,omitempty"`
}
