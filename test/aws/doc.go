// Package aws tests an agent and its cell's customer at a made-up AWS account: the agent reads its stacks there, and
// the customer makes and updates them with AWS's own command. It is a module of its own, since it takes minutes and
// needs that command.
package aws
