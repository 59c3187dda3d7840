// Package flagserver evaluates a cell's feature flags for the programs on its machine. It folds the flags received from
// the control plane with the features of the cell's releases, the features that the owner holds and the control plane's
// time, and serves the result by OFREP on loopback or a unix socket. It listens nowhere else and opens no connections;
// bundles come from a Source. What an agent's server holds may be shared: those of the cell's node parts take it. It
// decides neither what runs nor what is announced.
//
// A flag is on only if every release that may be running contains its feature (R38; the loop calls SetRunning before
// the first write of an apply), and not before its instant in the control plane's time (R40). A kill is in force as
// soon as it is received, whatever else fails, and is reported once it is durable. A lower height is refused. The last
// good bundle remains in force until the next one is fetched, verified and compiled (R39, R43).
//
// A Server has its own lock and waits for no other part of the agent: all its methods may be called at once.
// FetchBundles, RefoldOnTime, KeepSharing and Serve each run in one goroutine, until their context ends.
package flagserver
