-- What purchases of a sale need beside a buyer; a sale that is not here asks for nothing.
CREATE TABLE IF NOT EXISTS sale_policy (
  sale VARCHAR(64) NOT NULL PRIMARY KEY,
  token_required TINYINT NOT NULL CHECK (token_required IN (0, 1)),
  proof_of_work TINYINT NOT NULL CHECK (proof_of_work BETWEEN 0 AND 24)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;
