// Package host is a machine as the workload of package selfupdate: the program that runs as the agent is replaced by
// the one in the image that a release names, and put back.
//
// The guard is the program that the owner installed, and is never replaced by a release. It starts the agent as its
// child: itself, or a program in the state folder. The agent brings that program over its connection to the control
// plane, which serves images by digest, and says by a file which one it chose. The guard alone starts and ends agents.
//
// What always holds:
//
//   - A program runs only if its bytes came from the image that a release names by digest, and are as they were then.
//     A damaged one is not started: the installed program is. So it is while one can't be started.
//   - A release names a program only in a cell whose root of trust the release's signers are verified by.
//   - What is chosen, how far a step is and how often a new program was started are on disk before they count.
//   - An installed program that somebody replaced runs itself: what a release chose before does not count any more.
//
// A Machine's methods may be called at once. A Guard runs once.
package host
