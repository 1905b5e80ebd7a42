//! Lines in, typed product events out; every line ends as exactly one of event, filtered, dead letter.
