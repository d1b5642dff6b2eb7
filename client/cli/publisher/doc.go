// Package publisher holds the commands of those who publish packages and of
// those who own guests, one in a file.
package publisher
