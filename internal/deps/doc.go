// Package deps pins the dependencies while the packages that use them are being written.
package deps
