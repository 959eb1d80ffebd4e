// Package models defines the types of KubeAgents: what an agent reports, what the server keeps of it, and the rules
// that make a report valid. It imports no other package of this module.
//
// Every type is a plain value: a copy is complete, and copies share no memory that changes.
package models
