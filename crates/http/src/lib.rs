//! What every HTTP listener of the house shares: problem answers, request ids, bearer tokens, limits, graceful serving.
