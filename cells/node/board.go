package node

import (
	"context"
	"encoding/json"
	"strings"
	"time"

	"github.com/sluice-cd/sluice/cells/kubernetes"
	"github.com/sluice-cd/sluice/cells/maintenance"
	"github.com/sluice-cd/sluice/releases"
)

const (
	stateFile       = "maintenance.json" // a maintenance.PublishedState, in the ConfigMap and in the state folder
	heartbeatPrefix = "sluice-node-"     // of the Lease of a node part
)

// MaintenanceName returns the name of the ConfigMap that says to the node parts whether there is a maintenance.
func MaintenanceName(name string) string { return name + "-maintenance" }

// Board is the agent's side of what node parts grant: it tells them of maintenances, and knows which operations are
// under way on the nodes. Its methods are called by one goroutine at a time.
type Board struct {
	maps   *kubernetes.ConfigMaps
	beats  *kubernetes.Heartbeats
	name   string
	acting func(context.Context) error

	published maintenance.PublishedState // that was told last
	id        string                     // of it
	nodes     maintenance.Nodes
}

// NewBoard returns a board beside the ConfigMap with a name. See NewPublisher.
func NewBoard(maps *kubernetes.ConfigMaps, beats *kubernetes.Heartbeats, name string,
	acting func(context.Context) error) *Board {
	return &Board{maps: maps, beats: beats, name: name, acting: acting}
}

// TellMaintenance tells the node parts a state, and returns once it is durable: see cells.MaintenanceTeller.
func (b *Board) TellMaintenance(ctx context.Context, s maintenance.State) error {
	if err := b.acting(ctx); err != nil {
		return err
	}
	published := maintenance.PublishedState{State: s, At: time.Now()}
	text, err := json.Marshal(published)
	if err != nil {
		return err
	}
	if err := b.maps.Write(ctx, MaintenanceName(b.name), map[string][]byte{stateFile: text}); err != nil {
		return err
	}
	b.published, b.id = published, publishedID(text)
	return nil
}

// Operations returns what is under way on the nodes, under the state that was told last.
func (b *Board) Operations(ctx context.Context) (maintenance.Busy, error) {
	asked := time.Now() // who is silent by now has been so in what the answer says
	beats, err := b.beats.List(ctx)
	if err != nil {
		return maintenance.Busy{}, err
	}
	nodes := make([]maintenance.Node, len(beats))
	for i, beat := range beats {
		nodes[i] = maintenance.Node{Name: strings.TrimPrefix(beat.Name, heartbeatPrefix), Version: beat.Version}
		if json.Unmarshal([]byte(beat.Text), &nodes[i].Report) != nil {
			nodes[i].Report = maintenance.NodeReport{} // it counts as one that has not taken the state
		}
	}
	b.nodes.Seen(nodes, time.Now())
	for _, gone := range b.nodes.Forgotten(asked) {
		beat := kubernetes.Heartbeat{Name: heartbeatPrefix + gone.Name, Version: gone.Version}
		if err := b.beats.Remove(ctx, beat); err != nil {
			return maintenance.Busy{}, err
		}
	}
	return b.nodes.Judge(b.id, b.published, asked), nil
}

// publishedID identifies a PublishedState by its text; empty: there is none.
func publishedID(text []byte) string {
	if len(text) == 0 {
		return ""
	}
	return releases.DigestBytes(text).Hex()[:24]
}
